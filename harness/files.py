"""What the referee asks of a file system: files written whole, locks, and an error that says what is missing where."""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from harness.errors import HarnessError, UsageError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_RETRY_S = 0.02
MOST_ENTRIES = 100_000
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(
    path: Path, *, wait_s: float = 0.0, shared: bool = False, taken: HarnessError | None = None
) -> Iterator[bool]:
    """Hold the lock on ``path`` for the block, or yield False when another process has it for ``wait_s`` seconds.

    The kernel lets go when this process ends, however it ends. Raises ``OSError``, ENOLCK where there are no locks.

    shared: together with other readers; without such a file, or the right to open it, nobody writes and all is well
    taken:  raised when another process has it
    """
    until = time.monotonic() + wait_s
    try:
        how = os.O_RDONLY | os.O_NONBLOCK if shared else os.O_RDWR | os.O_CREAT  # a pipe of that name holds nobody up
        handle = os.open(path, how | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)  # a group's, too; no link: it is a stranger's
    except (FileNotFoundError, PermissionError):
        if not shared:
            raise
        yield True
        return
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    try:
        while not (mine := _try_lock(handle, kind, path)) and time.monotonic() < until:
            time.sleep(_RETRY_S)
        if taken and not mine:
            raise taken
        yield mine
    finally:
        os.close(handle)


def _try_lock(handle: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, kind)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS and kind & fcntl.LOCK_SH:
            return True  # nobody writes here either, for a writer would have to lock
        if error.errno in _NO_LOCKS:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(path.parent)) from None
        raise
    return True


def file_digest(path: Path) -> str:
    """SHA-256, as 64 hex digits, of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree(folder: Path) -> Iterator[Path]:
    """Everything below ``folder``, each folder's own entries by name before what lies deeper; links are not followed.

    Raises ``OSError`` for a folder that can't be listed, for files in it can be opened all the same by who knows their
    names; EFBIG for more than 100,000 entries in all, EILSEQ for a name that is not UTF-8, which no record can hold.
    """
    places, left = [folder], MOST_ENTRIES
    while places:
        with os.scandir(place := places.pop()) as entries:
            found = sorted(islice(entries, left + 1), key=lambda entry: entry.name)
        left -= len(found)
        if left < 0:
            raise OSError(errno.EFBIG, f"it has over {MOST_ENTRIES:,} files and folders", str(folder))
        for entry in found:
            if entry.name != entry.name.encode(errors="replace").decode():
                raise OSError(errno.EILSEQ, "a name in it is not UTF-8", str(place))
            yield Path(entry.path)
        places += [Path(entry.path) for entry in reversed(found) if entry.is_dir(follow_symlinks=False)]


def remove_tree(folder: Path) -> None:
    """Remove a file or a folder, whatever modes and depth somebody gave what lies below; nothing where it is missing.

    A refusal is not hidden, for what stays might be taken for a result. Raises ``OSError``.
    """
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):  # Python's own way ends at a depth of a thousand folders
        for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], capture_output=True, check=False)
        if folder.exists():
            raise OSError(errno.ENOTEMPTY, "it can't be removed", str(folder)) from None


def write_atomic(path: Path, data: bytes, *, replace: bool, mode: int | None = 0o644) -> None:
    """Write ``data`` completely or not at all: temporary file, fsync, then rename, or link when not to ``replace``.

    mode: ``None`` is what the user's umask leaves of 0o666
    Raises ``FileExistsError`` when the name is taken and ``replace`` is false, ``UsageError`` for a device's or pipe's.
    """
    if path.parent.resolve() == Path("/dev") or (path.exists() and not (path.is_file() or path.is_dir())):
        raise UsageError(f"{path} is a device or a pipe; a file would take its place.", remedy="Name a file.")
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode is None:
        os.umask(mask := os.umask(0))  # to ask for it is to set it
        mode = 0o666 & ~mask
    handle, name = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        if replace:
            partial.replace(path)
        else:
            os.link(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path.parent)  # writing to an open file names no disk
        raise
    finally:
        partial.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):  # it holds the file, unless that could not be written
                folder.rmdir()
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # CIFS and shared folders of virtual machines have none: go on
            raise
    finally:
        os.close(handle)


def told(path: Path | str) -> str:
    """What the system says in a file of its own, such as one of /proc; "" where it does not."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def read_regular(path: Path, most: int, *, links: bool = False, tail: int = 0) -> bytes:
    """The bytes of a regular file; one that is larger than ``most`` gives ``most`` + 1 of them.

    tail: so many of these are then the file's last, after a line end

    A stranger's file: a pipe or a device under its name must hold nobody up, and without ``links`` its target must lie
    where its name does. Raises ``OSError``, with ``EINVAL`` for what is not a regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = stream.read(most + 1)
        if tail and len(data) > most:
            stream.seek(-tail, os.SEEK_END)
            data = data[: most - tail] + b"\n" + stream.read(tail)
        return data
