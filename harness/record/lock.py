"""One lock a records folder: one writer at a time, and no reader meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import CouldNotCheck

LOCK_FILE = ".lock"
LOCK_TIMEOUT_S = 60.0


@contextmanager
def locked(records_dir: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the folder: alone for writing, or ``shared`` for reading. Raises ``CouldNotCheck`` after a minute.

    The lock is a file and not the folder itself, because network file systems lock only what is open for writing.
    A reader of a folder without a lock file, or without the right to open it, goes ahead: nobody writes there.
    """
    path = records_dir / LOCK_FILE
    if shared:
        try:
            handle = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):
            yield
            return
    else:
        records_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(handle, records_dir, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, kind: int) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise CouldNotCheck(
                    f"{folder} can't be locked: {error.strerror}.",
                    remedy="Put the records on a file system with locks: GOLF_RECORDS_DIR.",
                ) from error
            if time.monotonic() > deadline:
                raise CouldNotCheck(
                    f"{folder} stayed locked by another process for {LOCK_TIMEOUT_S:.0f} s.",
                    remedy="Wait until that process has ended, then sign again.",
                ) from error
            time.sleep(0.02)
        else:
            return
