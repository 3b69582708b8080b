"""Refusals of the host: which errors of disk, rights and databases are its, not faults of ours."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Final

from pleura.common.database import named
from pleura.common.errors import DiskFailed, DiskFull, HostFault, PleuraError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILING: Final = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO})
# No file or a wrong one (ENOENT, EBADF, EINVAL) is left out: our own mistakes look like that.
_REFUSED: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
    | {errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EFBIG, errno.EBUSY}
)
_NO_ENTRY: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_PRIMARY: Final = 0xFF  # the part of an error code that names its kind


def refusal_by_host(exc: OSError | sqlite3.DatabaseError) -> PleuraError | None:
    """Return the error of the tree that says what the host refused; None: a fault of ours.

    Names of files stay out of it.
    """
    if isinstance(exc, OSError):
        return _of_system(exc.errno or 0)
    code = getattr(exc, "sqlite_errorcode", 0)  # Python's own errors of the module have none
    if code & _PRIMARY in _NO_ENTRY:
        return HostFault("a database cannot be opened or written: rights, or a read-only disk")
    fault = named(exc) if code else exc
    return fault if isinstance(fault, PleuraError) else None


def _of_system(number: int) -> HostFault | None:
    if number in _FULL:
        return DiskFull("no space left on the volume")
    if number in _FAILING:
        return DiskFailed(os.strerror(number))
    return HostFault(os.strerror(number)) if number in _REFUSED else None
