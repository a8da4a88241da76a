"""Which libraries programs and extension modules load: the names in their ELF headers, looked up as the loader does.

Own code: the loader itself could say it, at the price of starting every file. Only 64-bit little-endian files are read;
all platforms of the sandbox are that. What a program opens by name while it runs (``dlopen``) is not found here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_HEADER, _PROGRAM = struct.Struct("<16s2HI3QI6H"), struct.Struct("<2I6Q")
_DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_CONFIGURED = ("/etc/ld.so.conf", "/etc/ld.so.conf.d")
_MAX_TEXT = 1 << 16


@dataclass(frozen=True)
class Needs:
    """What one file asks of the loader: its loader ("" in a library), library names, and folders to look in first."""

    loader: str = ""
    libraries: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def read_needs(path: Path) -> Needs:
    """The needs of one file; none where it is not an ELF file, or a damaged one."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if not head.startswith(_MAGIC) or len(head) < _HEADER.size:
                return Needs()
            fields = _HEADER.unpack(head)
            file.seek(fields[5])
            table = file.read(fields[9] * fields[10])
            parts = [_PROGRAM.unpack_from(table, at * fields[9]) for at in range(fields[10])]

            def read(offset: int, size: int) -> bytes:
                file.seek(offset)
                return file.read(size)

            loader = next((read(p[2], p[5]).rstrip(b"\0") for p in parts if p[0] == _PT_INTERP), b"")
            dynamic = next((read(p[2], p[5]) for p in parts if p[0] == _PT_DYNAMIC), b"")
            entries = [entry for entry in struct.iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16]) if entry[0]]
            place = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
            offset = next((p[2] + place - p[3] for p in parts if p[0] == _PT_LOAD and p[3] <= place < p[3] + p[5]), 0)

            def text(at: int) -> str:
                return os.fsdecode(read(offset + at, _MAX_TEXT).split(b"\0", 1)[0])

            libraries = tuple(text(value) for tag, value in entries if tag == _DT_NEEDED)
            wanted = ":".join(text(value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH))
    except (OSError, struct.error, OverflowError, ValueError):
        return Needs()
    origin = str(path.resolve().parent)
    folders = (part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for part in wanted.split(":"))
    return Needs(os.fsdecode(loader), libraries, tuple(folder for folder in folders if folder.startswith("/")))


def libraries_of(files: Iterable[Path], first: Iterable[str] = (), extra: Iterable[str] = ()) -> set[Path]:
    """Every library that ``files`` load when they start, with their loaders, by the path at which it is found.

    first: folders that are looked in before the system's, those of LD_LIBRARY_PATH; extra: names to look up as well
    """
    usual = (*first, *_system_folders())
    found: set[Path] = set()
    looked_up: set[tuple[str, tuple[str, ...]]] = set()
    wanted: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in extra]

    def ask(path: Path, above: tuple[str, ...]) -> None:
        needs = read_needs(path)
        if needs.loader and Path(needs.loader).is_file():
            found.add(Path(needs.loader))
        folders = tuple(dict.fromkeys((*needs.folders, *above)))  # RPATH holds for what a library loads as well
        wanted.extend((name, folders) for name in needs.libraries)

    for path in files:
        ask(path, ())
    while wanted:
        name, above = wanted.pop()
        if (name, above) in looked_up:
            continue
        looked_up.add((name, above))
        places = (Path(folder, name) for folder in (*above, *usual))  # of a name from the root on: that file itself
        if (place := next(filter(Path.is_file, places), None)) is not None:
            library = Path(os.path.normpath(place))
            if library not in found:
                found.add(library)
                ask(library, above)
    return found


def _system_folders() -> Iterator[str]:
    for place in map(Path, _CONFIGURED):
        for file in sorted(place.glob("*.conf")) if place.is_dir() else [place]:
            try:
                lines = file.read_text(errors="replace").split("\n")
            except OSError:
                continue
            yield from (line.strip() for line in lines if line.strip().startswith("/"))
    yield from _DEFAULT
