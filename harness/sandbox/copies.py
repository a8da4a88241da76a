"""Copies of packages without what people read in them: made once by the referee, seen by cells with their own root.

Covered: Python source of the interpreter's library and of packages, as far as cells may read it (``runtime.py``). All
that is not Python stays the same file and is mounted into the copy.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from harness.errors import CouldNotCheck
from harness.files import locked, remove_tree
from harness.sandbox.runtime import SETTINGS, TOOLS, Part

_STRIP = Path(__file__).with_name("strip.py")
_COMPILED = "__pycache__"  # of the originals, with their documentation: a copy has its own
_WAIT_S, _KEPT_S = 600.0, 30 * 86_400.0  # for another run that makes them; after its last use


@cache
def with_copies(parts: tuple[Part, ...], folder: Path) -> tuple[Part, ...]:
    """``parts`` with the copies that lie over them, in ``folder``: a new one where a file is new, on all cores.

    A copy is whole when it has its name, a digest of what it was made from: it was written under another one and
    synced before. No cell may write there. Raises ``CouldNotCheck`` where one can't be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = tempfile.TemporaryDirectory(prefix=".partial-", dir=folder)
    with locked(folder / ".lock", wait_s=_WAIT_S), beside as fresh:
        made, jobs, names = list[Part](), list[tuple[Path, Path]](), set[str]()
        for part in parts:
            # 1. What becomes of each file; nothing where there is no source.
            kinds = {place: _kinds(place, part) for place in part.mounts if part.name not in (TOOLS, SETTINGS)}
            kinds = {place: found for place, found in kinds.items() if "copied" in found.values()}
            inside = {path: kind for found in kinds.values() for path, kind in found.items()}
            # 2. The name: of names, kinds, sizes and times, of this Python and of what strips them.
            digest = hashlib.sha256(sys.version.encode() + _STRIP.read_bytes())
            for path, kind in inside.items():
                found = path.stat() if kind == "copied" else None
                state = f"{found.st_size} {found.st_mtime_ns}" if found else ""
                digest.update(f"{path}\0{kind}\0{state}\0".encode("utf-8", "surrogateescape"))
            names.add(name := digest.hexdigest()[:32])
            # 3. The copy, and how it lies over the originals.
            there = (folder / name).is_dir() or Path(fresh, name).is_dir()  # parts may share a folder, as NVIDIA's do
            for path, kind in inside.items() if not there else ():
                target = Path(fresh, name, *path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                if kind == "copied":
                    jobs.append((path, target))
                elif path.is_symlink():
                    target.symlink_to(path.readlink())
                else:
                    target.mkdir() if path.is_dir() else target.touch()
            tops = [(Path(folder, name, *top.parts[1:]), top) for top in map(Path.resolve, kinds)]
            mounted = [(path, path) for path, kind in inside.items() if kind in ("mounted", "closed")]
            seen = [path for path in part.paths if not any(path.is_relative_to(place) for place in kinds)]
            seen += [what for what, _ in tops] + [path for path, kind in inside.items() if kind == "mounted"]
            modules = {path for path, kind in inside.items() if kind == "copied"} - {top for _, top in tops}
            compiled = sorted({path.parent / _COMPILED for path in modules})
            made.append(replace(part, paths=(*part.paths, *compiled), copies=(*tops, *mounted), seen=tuple(seen)))
        _strip(jobs)
        for tree in Path(fresh).iterdir():
            with contextlib.suppress(OSError):  # another run was quicker
                tree.rename(folder / tree.name)
        for tree in folder.iterdir():
            if tree.name in names:
                os.utime(tree)
            elif time.time() - tree.stat().st_mtime > _KEPT_S:  # packages that have changed since
                remove_tree(tree)
    return tuple(made)


def _kinds(place: Path, part: Part) -> dict[Path, str]:
    """Real paths in a place -> "copied" for source that may be read, "mounted" for other files and folders that may.

    "closed": a folder that no rule opens; "name": a file of which only the name is there. No link is followed.
    """
    real = place.resolve()
    granted = {real / path.relative_to(place) for path in part.paths if path.is_relative_to(place)}
    above = {folder for path in granted for folder in path.parents}

    def look(path: Path, may_read: bool) -> dict[Path, str]:
        may_read |= path in granted
        if path.is_symlink():
            return {path: f"link to {path.readlink()}"}
        if path.is_file():
            return {path: "name" if not may_read else "copied" if path.suffix in (".py", ".pyi") else "mounted"}
        if not may_read and path not in above:
            return {path: "closed"}
        below = sorted(path.iterdir())
        inside = {at: kind for entry in below if entry.name != _COMPILED for at, kind in look(entry, may_read).items()}
        whole = {*inside.values()} <= {"mounted"} and not any(entry.name == _COMPILED for entry in below)
        return {path: "mounted"} if whole else inside

    nested = any(other in place.parents for other in part.mounts)
    return {} if nested else look(real, False)


def _strip(jobs: list[tuple[Path, Path]]) -> None:
    """Run ``strip.py`` over all jobs, as many processes as this one has processors, and sync what they wrote."""
    jobs.sort(key=lambda job: -job[0].stat().st_size)
    cores = min(len(os.sched_getaffinity(0)), len(jobs)) or 1
    shares = ["".join(f"{path}\0" for job in jobs[first::cores] for path in job) for first in range(cores)]
    command = [sys.executable, "-I", "-S", "-B", "-W", "ignore", str(_STRIP)]
    run = partial(subprocess.run, command, capture_output=True, check=False)
    with ThreadPoolExecutor(cores) as pool:
        for ended in pool.map(lambda share: run(input=os.fsencode(share)), shares if jobs else ()):
            if ended.returncode:
                why = os.fsdecode(ended.stderr).strip().rpartition("\n")[2] or f"exit code {ended.returncode}"
                text = f"packages could not be copied without their documentation: {why}."
                raise CouldNotCheck(text, remedy="The copies take some 250 MB in GOLF_CACHE_DIR.")
    if jobs:
        os.sync()
