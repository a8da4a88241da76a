"""The files of a folder, read as data within bounds: no link is followed, no device opened, nothing read without end.

A folder may be an excerpt: ``FILES.json`` then lists size and SHA-256 of the original files, by path. What is here is
hashed and judged as it is here: the listing is its author's word and only tells of what is not here.
"""

from __future__ import annotations

import hashlib
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
TEXTS = (".md", ".log", ".txt", ".out")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listed:
    """A file of the original folder, as ``FILES.json`` tells: size in bytes and SHA-256."""

    size: int
    sha256: str


@dataclass
class Folder:
    """The plain files of one folder by relative path -> size in bytes, and what an excerpt lists.

    unlike: files that are here with another size or digest than the listing's
    """

    root: Path
    sizes: dict[str, int]
    listing: dict[str, Listed] = field(default_factory=dict)
    unlike: list[str] = field(default_factory=list)
    deadline: float = 0.0
    budget: int = FOLDER_BYTES

    def size_of(self, name: str) -> int | None:
        """Size of the file as it lies here, else from the excerpt's listing; ``None`` when there is none."""
        if name in self.sizes:
            return self.sizes[name]
        return self.listing[name].size if name in self.listing else None

    @property
    def names(self) -> list[str]:
        """Every file that the original folder has, here or listed."""
        return sorted(set(self.sizes) | set(self.listing))

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
    listing: dict[str, Listed] = {}
    for name, item in found.items():
        if not (isinstance(item, dict) and set(item) == {"bytes", "sha256"} and _can_be_a_name(name)):
            return
        if type(item["bytes"]) is not int or not DIGEST.fullmatch(str(item["sha256"])):
            return
        listing[name] = Listed(item["bytes"], str(item["sha256"]))
    del folder.sizes[LISTING]
    if readings.excerpt == "refuse":
        return
    folder.listing = listing
    absent = sorted(set(folder.listing) - set(folder.sizes))
    if absent:
        out.unknown(
            "A9-FILES",
            f"an excerpt: {LISTING} lists {len(absent)} file(s) that are not here ({', '.join(absent[:6])}); what "
            "needs them can't be known.",
            file=LISTING,
            remedy="Check the whole folder, or set --reading excerpt=refuse.",
        )
    _compare(folder, out)


def _can_be_a_name(name: str) -> bool:
    try:
        return bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def _compare(folder: Folder, out: Findings) -> None:
    """Size and digest of every listed file that is here. Texts may be cut in an excerpt; code and metadata may not."""
    hashed = 0
    for name in sorted(set(folder.listing) & set(folder.sizes)):
        listed, size = folder.listing[name], folder.sizes[name]
        if listed.size == size and (hashed + size > FOLDER_BYTES or folder.late()):
            out.warn("A9-READABLE", "not compared with its listed digest: too large.", file=name)
        elif listed.size != size or _digest(folder.root / name) != listed.sha256:
            folder.unlike.append(name)
        hashed += size if listed.size == size else 0
    cut = [name for name in folder.unlike if name.endswith(TEXTS) and folder.sizes[name] < folder.listing[name].size]
    for name in folder.unlike:
        if name not in cut:
            listed = folder.listing[name]
            out.fail(
                "A9-FILES",
                f"the file is not the one that {LISTING} lists; it is judged as it is here.",
                file=name,
                found=f"{folder.sizes[name]:,} bytes",
                computed=f"{listed.size:,} bytes, SHA-256 {listed.sha256[:16]}…",
                remedy=f"Leave {LISTING} out: it is for excerpts of a folder.",
            )
    if cut:
        out.unknown(
            "A9-FILES",
            f"an excerpt: {len(cut)} text(s) are shorter here than {LISTING} says ({', '.join(cut[:6])}); they are "
            "judged as they are here.",
            file=LISTING,
        )


def _digest(path: Path) -> str:
    """SHA-256 of a plain file; empty when it can't be read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
