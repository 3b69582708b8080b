"""Peak memory of process trees, read from /proc while they live (Linux).

`VmHWM` of a process is the largest resident set it ever had, so looking now and
then is enough; only a process that lives shorter than a look is missed.
"""

from __future__ import annotations

from pathlib import Path

ROLES = {
    "pleura.server.gateway": "gateway",
    "flower-superlink": "SuperLink",
    "flwr-serverapp": "ServerApp",
    "flower-superexec": "SuperExec",
}


class PeakMemory:
    """The peaks, in MB, of the known coordinator processes below some root processes."""

    def __init__(self) -> None:
        self.peaks_mb: dict[str, int] = {}

    def look(self, *roots: int) -> None:
        """Take in what is alive below `roots` now."""
        for pid in _tree(roots):
            role = _role(pid)
            if role is not None:
                peak = _peak_mb(pid)
                self.peaks_mb[role] = max(peak, self.peaks_mb.get(role, 0))

    def taken(self) -> dict[str, int]:
        """Return the peaks so far and begin anew."""
        peaks, self.peaks_mb = self.peaks_mb, {}
        return peaks


def _tree(roots: tuple[int, ...]) -> list[int]:
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # it ended meanwhile
    return found


def _role(pid: int) -> str | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return None
    for word in words[:3]:
        role = ROLES.get(Path(word).name)
        if role is not None:
            return role
    return None


def _peak_mb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0
