"""Copies of packages without what people read in them: made once by the referee, seen by cells with their own root.

Covered: Python source of the interpreter's library and of packages, as far as cells may read it (``runtime.py``). All
that is not Python stays the same file and is mounted into the copy.
"""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from harness.errors import CouldNotCheck
from harness.sandbox.runtime import SETTINGS, TOOLS, Part

_STRIP = Path(__file__).with_name("strip.py")
_SOURCES = (".py", ".pyi")
_COMPILED = "__pycache__"  # of the originals, with their documentation: a copy has its own


@cache
def with_copies(parts: tuple[Part, ...], folder: Path) -> tuple[Part, ...]:
    """``parts`` with the copies that lie over them, in ``folder``: a new one where a file is new, on all cores.

    A copy is whole when it has its name, a digest of all that it was made from: it was written under another one and
    synced before. No cell may write there. Raises ``CouldNotCheck`` where one can't be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as fresh:
        made, jobs = list[Part](), list[tuple[str, str, str]]()
        for part in parts:
            places = {} if part.name in (TOOLS, SETTINGS) else _sorted_out(part)
            name = _digest(found for inside in places.values() for found in inside.items())
            granted, copies = [*part.paths], list[tuple[Path, Path]]()
            for number, (place, inside) in enumerate(places.items()):
                real = place.resolve()
                copy = Path(name, str(number), real.name)
                granted = [real / path.relative_to(place) if _within(path, place) else path for path in granted]
                copies.append((folder / copy, real))
                copies += [(path, path) for path, kind in inside.items() if kind == "mounted"]
                granted += {path.parent / _COMPILED for path, kind in inside.items() if kind == "copied"}
                if not (folder / name).is_dir():
                    jobs += _lay_out(inside, real, fresh / copy)
            made.append(replace(part, paths=tuple(dict.fromkeys(granted)), copies=tuple(copies)))
        _strip(jobs)
        for tree in Path(fresh).iterdir():
            with contextlib.suppress(OSError):  # another run was quicker
                tree.rename(folder / tree.name)
    return tuple(made)


def _sorted_out(part: Part) -> dict[Path, dict[Path, str]]:
    """Each folder or file of a part with Python source that may be read -> what is in it, and what becomes of that.

    Source is "copied"; else what may be read and folders are "mounted"; of other files there is the "name". A link is
    what it says: followed it may lead to what no cell may read.
    """
    found = {}
    for place in part.mounts:
        if not any(other in place.parents for other in part.mounts):
            real = place.resolve()
            granted = {real / path.relative_to(place) for path in part.paths if _within(path, place)}
            above = {folder for path in granted for folder in path.parents}
            inside = _kinds(real, granted, above)
            if "copied" in inside.values():
                found[place] = {path: kind for path, kind in inside.items() if kind}
    return found


def _within(path: Path, place: Path) -> bool:
    return place in (path, *path.parents)


def _kinds(path: Path, granted: set[Path], above: set[Path], *, may_read: bool = False) -> dict[Path, str]:
    may_read |= path in granted
    if path.is_symlink():
        return {path: f"link to {path.readlink()}"}
    if path.name == _COMPILED:
        return {path: ""}
    if path.is_file():
        return {path: ("copied" if path.suffix in _SOURCES else "mounted") if may_read else "name"}
    if not may_read and path not in above:
        return {path: "mounted"}  # and no rule opens it
    inside = dict[Path, str]()
    for below in sorted(path.iterdir()):
        inside |= _kinds(below, granted, above, may_read=may_read)
    return {path: "mounted"} if {*inside.values()} <= {"mounted"} else inside


def _digest(inside: Iterable[tuple[Path, str]]) -> str:
    """Of names, kinds and sources, of this Python and of what strips them."""
    digest = hashlib.sha256(sys.version.encode() + _STRIP.read_bytes())
    for path, kind in inside:
        source = path.read_bytes() if kind == "copied" else b""
        digest.update(f"{path}\0{path.is_dir()} {kind}\0{len(source)}\0".encode("utf-8", "surrogateescape") + source)
    return digest.hexdigest()[:32]


def _lay_out(inside: dict[Path, str], place: Path, copy: Path) -> Iterator[tuple[str, str, str]]:
    """Make what a copy of ``place`` holds beside source; of each source: where it is, goes, and goes when compiled."""
    for path, kind in inside.items():
        target = copy / path.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "copied":
            module = path.suffix == ".py" and path != place
            yield str(path), str(target), importlib.util.cache_from_source(target) if module else ""
        elif path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_dir():
            target.mkdir()
        else:
            target.touch()


def _strip(jobs: list[tuple[str, str, str]]) -> None:
    """Run ``strip.py`` over all jobs, as many processes as this one has processors, and sync what they wrote."""
    jobs.sort(key=lambda job: -Path(job[0]).stat().st_size)
    cores = min(len(os.sched_getaffinity(0)), len(jobs))
    shares = ["".join(f"{name}\0" for job in jobs[first::cores] for name in job) for first in range(cores)]
    command = [sys.executable, "-I", "-S", "-B", "-W", "ignore", str(_STRIP)]
    run = partial(subprocess.run, command, capture_output=True, check=False)
    with ThreadPoolExecutor(cores or 1) as pool:
        for ended in pool.map(lambda share: run(input=os.fsencode(share)), shares):
            if ended.returncode:
                why = os.fsdecode(ended.stderr).strip().rpartition("\n")[2] or f"exit code {ended.returncode}"
                text = f"packages could not be copied without their documentation: {why}."
                raise CouldNotCheck(text, remedy="The copies take some 250 MB in GOLF_CACHE_DIR.")
    if jobs:
        os.sync()
