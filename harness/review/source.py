"""The files of a folder, read as data within bounds: from a disk or from objects of a repository.

No link is followed, no device opened, nothing read without end. A folder may be an excerpt: ``FILES.json`` then lists
the sizes of the original files, by path. What is here is judged as it is here: the listing only tells of what is not
here.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from harness.errors import UsageError
from harness.files import read_regular
from harness.review.findings import Findings, Readings

MAX_ENTRIES, MAX_DEPTH = 2_000, 8
HEAD_BYTES, TAIL_BYTES, FOLDER_BYTES = 6 << 20, 2 << 20, 64 << 20
FOLDER_SECONDS = 20.0
LISTING = "FILES.json"
PASSED_OVER = {".git", "__pycache__", ".ipynb_checkpoints", "__MACOSX", ".DS_Store", ".vscode", ".idea"}
"""Left behind by tools; copies in there are no evidence."""
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "tree", stat.S_IFLNK: "link"}
Entry = tuple[str, str, int]
"""Kind ("tree", "file", "link", "other"), name and size."""
Reader = Callable[[str, int], tuple[bytes, bool]]
"""(name, limit) -> bytes and whether they are the whole file. Raises ``OSError``."""


class Listed(msgspec.Struct, forbid_unknown_fields=True):
    """What an excerpt lists of a file."""

    bytes: int
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


Listing = dict[Annotated[str, msgspec.Meta(min_length=1)], Listed]


@dataclass
class Folder:
    """The plain files of one folder by relative path -> size in bytes, and what an excerpt lists.

    name, parent: the folder's own name and that of the folder around it
    """

    name: str
    parent: str
    sizes: dict[str, int]
    reader: Reader
    listing: dict[str, int] = field(default_factory=dict)
    deadline: float = field(default_factory=lambda: time.process_time() + FOLDER_SECONDS)
    budget: int = FOLDER_BYTES

    def size_of(self, name: str) -> int | None:
        """Size of the file as it lies here, else from the excerpt's listing; ``None`` when there is none."""
        return self.sizes.get(name, self.listing.get(name))

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

    def bounded(name: str, limit: int) -> tuple[bytes, bool]:
        data = read_regular(path / name, limit, tail=min(TAIL_BYTES, limit // 4))
        return data, len(data) <= limit

    place = path.resolve()
    folder = Folder(path.absolute().name or place.name, place.parent.name, walk(partial(_scan, path), out), bounded)
    read_listing(folder, readings, out)
    return folder


def _scan(root: Path, prefix: str) -> Iterator[Entry]:
    with os.scandir(root / prefix) as found:
        for entry in found:
            status = entry.stat(follow_symlinks=False)
            yield KINDS.get(stat.S_IFMT(status.st_mode), "other"), entry.name, status.st_size


def walk(scan: Callable[[str], Iterable[Entry]], out: Findings) -> dict[str, int]:
    """Path -> size of every plain file, within bounds. scan: the entries of the folder at a prefix ("" or "a/b/")."""
    rule, sizes, waiting, entries = "A9-PLAIN-FILES", dict[str, int](), [""], 0
    while waiting:
        prefix = waiting.pop()
        try:
            for kind, last, size in scan(prefix):
                entries, name = entries + 1, prefix + last
                if entries > MAX_ENTRIES:
                    message = f"the folder holds more than {MAX_ENTRIES:,} entries; the rest was not looked at."
                    out.fail(rule, message, remedy="Ship only README.md, submission.json, logs and code.")
                    return sizes
                if last in PASSED_OVER:
                    continue
                if kind == "file":
                    sizes[name] = size
                elif kind == "tree" and name.count("/") < MAX_DEPTH:
                    waiting.append(f"{name}/")
                elif kind == "tree":
                    out.fail(rule, f"folders nest deeper than {MAX_DEPTH}; not entered.", name)
                elif kind == "link":
                    out.fail(rule, "a symbolic link; it was not followed.", name, remedy="Ship the file itself.")
                else:
                    out.fail(rule, "neither file nor folder (a device, pipe, socket or submodule); not opened.", name)
        except OSError as error:
            out.fail(rule, f"the folder can't be read: {error.strerror or error}.", prefix)
    return sizes


def named_files(names: Iterable[str]) -> str:
    """The first of some files, each once."""
    first = list(dict.fromkeys(names))
    return f"{', '.join(first[:6])}{' …' if len(first) > 6 else ''}"


def read_listing(folder: Folder, readings: Readings, out: Findings) -> None:
    """Take ``FILES.json`` for what it is: the listing of an excerpt, or a file like others."""
    try:
        found = msgspec.json.decode(folder.read(LISTING, out, limit=1 << 20) or b"{}", type=Listing)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if found:
        del folder.sizes[LISTING]
    if readings.excerpt == "accept":
        folder.listing = {n: item.bytes for n, item in found.items() if not PASSED_OVER & set(n.split("/"))}
    absent = sorted(set(folder.listing) - set(folder.sizes))
    unlike = sorted(n for n, size in folder.sizes.items() if folder.listing.get(n, size) != size)
    for names, what in ((absent, "are not here"), (unlike, "are here with another size")):
        if names:
            shown = named_files(names)
            message = f"an excerpt: {len(names)} file(s) that {LISTING} lists {what} ({shown}); what is here is judged."
            out.unknown("A9-FILES", message, LISTING, remedy="Check the whole folder, or set --reading excerpt=refuse.")
