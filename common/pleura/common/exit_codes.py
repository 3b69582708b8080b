"""Exit codes of every `pleura` command, in one place so scripts can rely on them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees. Members never change their number."""

    OK = 0
    INCOMPLETE = 1  # the command ran, but some items were refused or quarantined
    USAGE = 2  # the command line itself was wrong
    CONFIG = 3  # a configuration, key or rule file must be corrected
    ENVIRONMENT = 4  # this machine cannot do it now: disk, port, clock, sandbox
    REFUSED = 5  # a signature, policy, budget or privacy rule said no
    UNREACHABLE = 6  # the other side did not answer
    INTERNAL = 70  # a fault in Pleura itself
    STOPPED = 130  # by Ctrl-C, as the shell says it
