"""The files of a folder, read as data within bounds: from a disk or from objects of a repository.

No link is followed, no device opened, nothing read without end. A folder may be an excerpt: ``FILES.json`` then lists
size and SHA-256 of the original files, by path. What is here is judged as it is here: the listing only tells of what is
not here.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError
from harness.review.findings import Findings, Readings
from harness.review.jsonfile import JsonProblem, parse_json, plain_value

MAX_ENTRIES, MAX_DEPTH = 2_000, 8
HEAD_BYTES, TAIL_BYTES, FOLDER_BYTES = 6 << 20, 2 << 20, 64 << 20
FOLDER_SECONDS = 20.0
LISTING = "FILES.json"
PASSED_OVER = {".git", "__pycache__", ".ipynb_checkpoints", "__MACOSX", ".DS_Store", ".vscode", ".idea"}
"""Left behind by tools; copies in there are no evidence."""
Reader = Callable[[str, int], tuple[bytes, bool]]
"""(name, limit) -> bytes and whether they are the whole file. Raises ``OSError``."""


@dataclass
class Folder:
    """The plain files of one folder by relative path -> size in bytes, and what an excerpt lists.

    name, parent: the folder's own name and that of the folder around it
    """

    name: str
    parent: str
    sizes: dict[str, int]
    reader: Reader
    listing: dict[str, tuple[int, str]] = field(default_factory=dict)
    deadline: float = field(default_factory=lambda: time.process_time() + FOLDER_SECONDS)
    budget: int = FOLDER_BYTES

    def size_of(self, name: str) -> int | None:
        """Size of the file as it lies here, else from the excerpt's listing; ``None`` when there is none."""
        return self.sizes[name] if name in self.sizes else self.listing.get(name, (None, ""))[0]

    def original_size(self, name: str) -> int | None:
        """Size that the excerpt's listing gives, else the size as it lies here."""
        return self.listing[name][0] if name in self.listing else self.sizes.get(name)

    @property
    def names(self) -> list[str]:
        """Every file that the original folder has, here or listed."""
        return sorted(set(self.sizes) | set(self.listing))

    def late(self) -> bool:
        """Whether this folder has used up its time, which is that of the processor: a busy machine is not its fault."""
        return time.process_time() > self.deadline

    def read(self, name: str, out: Findings, *, limit: int = HEAD_BYTES + TAIL_BYTES) -> bytes | None:
        """The file's bytes; of a longer file its head and tail. ``None`` when it is not here or can't be read."""
        if name not in self.sizes:
            return None
        if self.budget <= 0 or self.late():
            out.warn("A9-READABLE", "not read: the folder's bounds of time or size are used up.", name)
            return None
        try:
            data, whole = self.reader(name, limit)
        except OSError as error:
            out.fail("A9-PLAIN-FILES", f"the file can't be read: {error.strerror or error}.", name)
            return None
        self.budget -= len(data)
        if not whole:
            message = f"only the first and last part were read ({len(data):,} bytes)."
            remedy = "Ship logs without repeated output; real ones have well under 1 MB."
            out.warn("A9-READABLE", message, name, f"{self.sizes[name]:,} bytes", "", remedy)
        return data


def open_folder(path: Path, readings: Readings, out: Findings) -> Folder:
    """Walk a folder of the disk. Raises ``UsageError`` when it is not one."""
    if not path.is_dir():
        remedy = "Give record folders, such as records/track_…/2026-04-01_X."
        raise UsageError(f"{path} is not a folder.", remedy=remedy)
    place = path.resolve()
    sizes: dict[str, int] = {}
    _walk(path, sizes, out)
    folder = Folder(
        path.absolute().name or place.name, place.parent.name, sizes, lambda n, limit: _read(path / n, limit)
    )
    read_listing(folder, readings, out)
    return folder


def _walk(root: Path, sizes: dict[str, int], out: Findings) -> None:
    waiting, entries = [(root, "", 0)], 0
    while waiting:
        place, prefix, depth = waiting.pop()
        try:
            scan = os.scandir(place)
        except OSError as error:
            out.fail("A9-PLAIN-FILES", f"the folder can't be read: {error.strerror}.", prefix)
            continue
        with scan:
            for entry in scan:
                entries, name = entries + 1, prefix + entry.name
                if entries > MAX_ENTRIES:
                    too_many(out)
                    return
                if entry.name in PASSED_OVER:
                    continue
                if entry.is_symlink():
                    symlink(out, name)
                elif entry.is_dir(follow_symlinks=False):
                    if depth >= MAX_DEPTH:
                        out.fail("A9-PLAIN-FILES", f"folders nest deeper than {MAX_DEPTH}; not entered.", name)
                    else:
                        waiting.append((Path(entry.path), f"{name}/", depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    sizes[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    message = "neither file nor folder (a device, pipe or socket); not opened."
                    out.fail("A9-PLAIN-FILES", message, name)


def too_many(out: Findings) -> None:
    """The finding on a folder of too many entries."""
    message = f"the folder holds more than {MAX_ENTRIES:,} entries; the rest was not looked at."
    out.fail("A9-PLAIN-FILES", message, remedy="Ship only README.md, submission.json, logs and code.")


def symlink(out: Findings, name: str) -> None:
    """The finding on a link."""
    out.fail("A9-PLAIN-FILES", "a symbolic link; it was not followed.", name, remedy="Ship the file itself.")


def _read(path: Path, limit: int) -> tuple[bytes, bool]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a plain file")
        if status.st_size <= limit:
            return stream.read(limit), True
        tail = min(TAIL_BYTES, limit // 4)
        head = stream.read(limit - tail)
        stream.seek(-tail, os.SEEK_END)
        return head + b"\n" + stream.read(tail), False


def read_listing(folder: Folder, readings: Readings, out: Findings) -> None:
    """Take ``FILES.json`` for what it is: the listing of an excerpt, or a file like others."""
    data = folder.read(LISTING, out, limit=1 << 20) if LISTING in folder.sizes else None
    try:
        found = plain_value(parse_json(data)) if data else None
    except JsonProblem:
        return
    if not isinstance(found, dict) or not found:
        return
    for name, item in found.items():
        if not (isinstance(item, dict) and set(item) == {"bytes", "sha256"} and _can_be_a_name(name)):
            return
        if type(item["bytes"]) is not int or not re.fullmatch(r"[0-9a-f]{64}", str(item["sha256"])):
            return
    del folder.sizes[LISTING]
    if readings.excerpt == "refuse":
        return
    passed_over = [name for name in found if PASSED_OVER & set(name.split("/"))]
    folder.listing = {n: (i["bytes"], i["sha256"]) for n, i in found.items() if n not in passed_over}
    remedy = "Check the whole folder, or set --reading excerpt=refuse."
    absent = sorted(set(folder.listing) - set(folder.sizes))
    unlike = [n for n in sorted(set(folder.listing) & set(folder.sizes)) if _unlike(folder, n)]
    for names, what in ((absent, "are not here"), (unlike, "are here with another size or digest")):
        if names:
            shown = f"{', '.join(names[:6])}{' …' if len(names) > 6 else ''}"
            message = f"an excerpt: {len(names)} file(s) that {LISTING} lists {what} ({shown}); what is here is judged."
            out.unknown("A9-FILES", message, LISTING, remedy)


def _can_be_a_name(name: str) -> bool:
    try:
        return bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def _unlike(folder: Folder, name: str) -> bool:
    size, digest = folder.listing[name]
    if size != folder.sizes[name] or size > HEAD_BYTES or folder.late():
        return size != folder.sizes[name]
    try:
        return hashlib.sha256(folder.reader(name, size)[0]).hexdigest() != digest
    except OSError:
        return True
