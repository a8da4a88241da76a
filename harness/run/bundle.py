"""The code that travels: every file of a submission's folder, packed into ``code.bundle`` [A3-NO-UNCOUNTED-CODE].

Counted are all files except ``*.md``, ``__pycache__`` and dot files; those three kinds are not carried along either, so
nothing uncounted can matter. Symbolic links and special files are refused, because their target is not in the folder.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.errors import CouldNotCheck, UsageError
from harness.protocol.container import ContainerError, read_container, write_container

MAX_FILES = 2000
MAX_CODE_BYTES = 64_000_000


def read_folder(folder: Path) -> dict[str, bytes]:
    """The counted files of ``folder`` by relative path. Raises ``UsageError`` for links, special files and excess."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory.", remedy="Name a submission: SUBMISSION=folder.")
    files: dict[str, bytes] = {}
    _collect(folder, folder, files, MAX_CODE_BYTES)
    if not files:
        raise UsageError(f"{folder} holds no code.", remedy="`harness new FOLDER` writes a minimal submission.")
    return dict(sorted(files.items()))


def pack_code(files: dict[str, bytes]) -> bytes:
    """The bundle: one container, compressed as a whole. Raises ``UsageError`` for a file name it cannot carry."""
    try:
        return write_container(None, files, codec="lzma")
    except ContainerError as error:
        raise UsageError(f"the submission cannot be sealed: {error}", remedy="Rename the file.") from error


def unpack_code(bundle: bytes, target: Path) -> None:
    """Write the files of ``bundle`` below ``target``, read-only. Raises ``CouldNotCheck`` when it is damaged."""
    try:
        files = read_container(bundle, max_unpacked_bytes=MAX_CODE_BYTES + 1_000_000)
    except ContainerError as error:
        raise CouldNotCheck(
            f"the code.bundle is damaged: {error}", remedy="Take the run's own artifact/code.bundle."
        ) from error
    for name, data in files.items():
        path = target / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o444)
        except OSError as error:
            raise CouldNotCheck(
                f"{name} of the code.bundle cannot be written to {path}: {error.strerror}.",
                remedy="Free space there, or set GOLF_RUNS_DIR to another disk.",
            ) from error
    for folder, _, _ in os.walk(target, topdown=False):
        Path(folder).chmod(0o555)


def _collect(root: Path, folder: Path, files: dict[str, bytes], room: int) -> int:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith(".") or entry.name == "__pycache__" or entry.name.endswith(".md"):
            continue
        path = Path(entry.path)
        name = path.relative_to(root).as_posix()
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            room = _collect(root, path, files, room)
            continue
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise UsageError(
                f"{path} is {kind}; a submission consists of regular files.", remedy="Copy its content in."
            )
        data = _read_regular(path, room)
        room -= len(data)
        files[name] = data
        if len(files) > MAX_FILES:
            raise UsageError(f"{root} holds more than {MAX_FILES:,} files.", remedy="Keep data and outputs elsewhere.")
    return room


def _read_regular(path: Path, room: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        data = file.read(room + 1)
    if len(data) > room:
        raise UsageError(
            f"{path} brings the code to more than {MAX_CODE_BYTES:,} bytes.", remedy="Keep data and outputs elsewhere."
        )
    return data
