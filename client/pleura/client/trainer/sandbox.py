"""Sandbox: puts this process into a network namespace of its own and proves it.

Must run before any thread starts and before torch is imported. Root needs only
a network namespace; anyone else gets a user namespace with it. Under systemd
PrivateNetwork the process already has one. What counts is the proof afterwards:
no interface but loopback, and no route for IPv4 or IPv6.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from pathlib import Path
from typing import Final

from pleura.client.errors import NotSandboxed
from pleura.common import events

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
# RFC 5737 and RFC 3849 documentation addresses: never a real host
_PROBES: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN}
)
_PROBE_TIMEOUT_S: Final = 0.5


def enter(*, allow_unsandboxed: bool = False) -> bool:
    """Leave the network; return whether the proof succeeded.

    Raises:
        NotSandboxed: the network is still reachable and the policy does not allow that.
    """
    mode, cause = _unshare()
    try:
        prove()
    except NotSandboxed as exc:
        events.emit("sandbox.unavailable", code=exc.code, error=cause or type(exc).__name__)
        if allow_unsandboxed:
            return False
        raise
    events.emit("sandbox.entered", mode=mode)
    return True


def prove() -> None:
    """Return if this process cannot reach any network.

    A refused or unanswered connection is no proof: packets may have left.

    Raises:
        NotSandboxed: there is an interface besides loopback, or a route.
    """
    if any(name != "lo" for _, name in socket.if_nameindex()):
        raise NotSandboxed("a network interface is visible")
    for family, address in _PROBES:
        if _has_route(family, address):
            raise NotSandboxed("there is a route to another host")


def _has_route(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_TIMEOUT_S)
            probe.connect((address, 443))
    except OSError as exc:
        return exc.errno not in _NO_ROUTE
    return True


def _unshare() -> tuple[str, str]:
    """Try to enter new namespaces; return the mode and, on failure, the errno's name."""
    uid, gid = os.geteuid(), os.getegid()
    is_root = uid == 0
    if _call_unshare(_CLONE_NEWNET if is_root else _CLONE_NEWUSER | _CLONE_NEWNET):
        number = ctypes.get_errno()
        return "inherited", errno.errorcode.get(number, "EUNKNOWN")
    if not is_root:
        # keep our own ids, so that ownership checks on the state folder still hold
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    return ("network-namespace" if is_root else "user-namespace"), ""


def _call_unshare(flags: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).unshare(flags))
