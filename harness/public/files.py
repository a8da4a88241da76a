"""The files of a folder, read as data within bounds: no link is followed, no device opened, nothing read without end.

A folder may be an excerpt: ``FILES.json`` then lists size and SHA-256 of the original files, by path.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError
from harness.public.findings import Findings
from harness.public.jsonin import JsonProblem, parse_json
from harness.public.readings import Readings

MAX_ENTRIES = 2_000
MAX_DEPTH = 8
HEAD_BYTES, TAIL_BYTES = 6 << 20, 2 << 20
FOLDER_BYTES = 64 << 20
FOLDER_SECONDS = 20.0
LISTING = "FILES.json"
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listed:
    """A file of the original folder, as ``FILES.json`` tells: size in bytes and SHA-256."""

    size: int
    sha256: str


@dataclass
class Folder:
    """The plain files of one folder by relative path -> size in bytes, and what an excerpt lists."""

    root: Path
    sizes: dict[str, int]
    listing: dict[str, Listed] = field(default_factory=dict)
    deadline: float = 0.0
    budget: int = FOLDER_BYTES

    def size_of(self, name: str) -> int | None:
        """Size of the original file: from the excerpt's listing, else as it lies here; ``None`` when there is none."""
        if name in self.listing:
            return self.listing[name].size
        return self.sizes.get(name)

    @property
    def names(self) -> list[str]:
        """Every file that the original folder has, here or listed."""
        return sorted(set(self.sizes) | set(self.listing))

    def shortened(self, name: str) -> bool:
        """Whether the file here is an excerpt of the original."""
        return name in self.listing and self.listing[name].size != self.sizes.get(name)

    def late(self) -> bool:
        """Whether this folder has used up its time."""
        return time.monotonic() > self.deadline

    def read(self, name: str, out: Findings, *, limit: int = HEAD_BYTES + TAIL_BYTES) -> bytes | None:
        """The file's bytes; of a longer file its head and tail. ``None`` when it is not here or can't be read."""
        if name not in self.sizes:
            return None
        if self.budget <= 0 or self.late():
            out.warn("A9-READABLE", "not read: the folder's bounds of time or size are used up.", file=name)
            return None
        try:
            data, whole = _read_plain(self.root / name, limit)
        except OSError as error:
            out.fail("A9-PLAIN-FILES", f"the file can't be read: {error.strerror or error}.", file=name)
            return None
        self.budget -= len(data)
        if not whole:
            out.warn(
                "A9-READABLE",
                f"only the first and last part were read ({len(data):,} bytes).",
                file=name,
                found=f"{self.sizes[name]:,} bytes",
                remedy="Ship logs without repeated output; real ones have well under 1 MB.",
            )
        return data


def open_folder(path: Path, readings: Readings, out: Findings) -> Folder:
    """Walk the folder. Raises ``UsageError`` when it is not a folder."""
    if not path.is_dir():
        raise UsageError(
            f"{path} is not a folder.", remedy="Give record folders, such as records/track_…/2026-04-01_X."
        )
    folder = Folder(path, {}, deadline=time.monotonic() + FOLDER_SECONDS)
    _walk(folder, out)
    if LISTING in folder.sizes:
        _read_listing(folder, readings, out)
    return folder


def _walk(folder: Folder, out: Findings) -> None:
    waiting, entries = [(folder.root, "", 0)], 0
    while waiting:
        place, prefix, depth = waiting.pop()
        try:
            scan = os.scandir(place)
        except OSError as error:
            out.fail("A9-PLAIN-FILES", f"the folder can't be read: {error.strerror}.", file=prefix)
            continue
        with scan:
            for entry in scan:
                entries += 1
                if entries > MAX_ENTRIES:
                    out.fail(
                        "A9-PLAIN-FILES",
                        f"the folder holds more than {MAX_ENTRIES:,} entries; the rest was not looked at.",
                        remedy="Ship only README.md, submission.json, logs and code.",
                    )
                    return
                _take(folder, entry, prefix + entry.name, depth, waiting, out)


def _take(
    folder: Folder, entry: os.DirEntry[str], name: str, depth: int, waiting: list[tuple[Path, str, int]], out: Findings
) -> None:
    if entry.is_symlink():
        out.fail("A9-PLAIN-FILES", "a symbolic link; it was not followed.", file=name, remedy="Ship the file itself.")
    elif entry.is_dir(follow_symlinks=False):
        if entry.name in (".git", "__pycache__"):
            return
        if depth >= MAX_DEPTH:
            out.fail("A9-PLAIN-FILES", f"folders nest deeper than {MAX_DEPTH}; not entered.", file=name)
        else:
            waiting.append((Path(entry.path), f"{name}/", depth + 1))
    elif entry.is_file(follow_symlinks=False):
        folder.sizes[name] = entry.stat(follow_symlinks=False).st_size
    else:
        out.fail("A9-PLAIN-FILES", "neither file nor folder (a device, pipe or socket); not opened.", file=name)


def _read_plain(path: Path, limit: int) -> tuple[bytes, bool]:
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


def _read_listing(folder: Folder, readings: Readings, out: Findings) -> None:
    data = folder.read(LISTING, out, limit=1 << 20)
    try:
        found = parse_json(data or b"")
    except JsonProblem:
        return
    if not isinstance(found, dict) or not found:
        return
    for name, item in found.items():
        if not (isinstance(item, dict) and set(item) == {"bytes", "sha256"}):
            return
        if type(item["bytes"]) is not int or not DIGEST.fullmatch(str(item["sha256"])):
            return
        folder.listing[name] = Listed(item["bytes"], str(item["sha256"]))
    del folder.sizes[LISTING]
    absent = sorted(set(folder.listing) - set(folder.sizes))
    if readings.excerpt == "refuse":
        folder.listing = {}
    elif absent:
        out.unknown(
            "A9-FILES",
            f"an excerpt: {LISTING} lists {len(absent)} file(s) that are not here ({', '.join(absent[:6])}); what "
            "needs them can't be known.",
            file=LISTING,
            remedy="Check the whole folder, or set --reading excerpt=refuse.",
        )
