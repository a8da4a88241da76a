"""What the referee asks of a file system besides bytes: locks, and an error that says which of it is missing where."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import FOLDERS, CouldNotCheck

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_RETRY_S = 0.02


def lacks(folder: Path, ability: str) -> CouldNotCheck:
    """The error for a file system that does not offer ``ability``, such as "hard links"."""
    return CouldNotCheck(
        f"the file system of {folder} offers no {ability}.", remedy=f"Use another one: {FOLDERS} name the folders."
    )


@contextmanager
def locked(path: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock on ``path`` for the block, or yield False when another process has it for ``wait_s`` seconds.

    The kernel lets go when this process ends, however it ends. Raises ``CouldNotCheck`` where there are no locks.
    """
    until = time.monotonic() + wait_s
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not (mine := _try_lock(handle, path)) and time.monotonic() < until:
            time.sleep(_RETRY_S)
        yield mine
    finally:
        os.close(handle)


def _try_lock(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise lacks(path.parent, "file locks (flock)") from None
        raise
    return True
