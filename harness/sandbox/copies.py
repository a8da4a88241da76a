"""Copies of packages without what people read in them: made once by the referee, seen by cells with their own root.

Covered: Python source of the interpreter's library and of packages. All that is not Python stays the same file and is
mounted into the copy, but stubs and test cases, which are left out. What of it may be opened is the rules' affair.
"""

import hashlib
import os
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness.errors import CouldNotCheck
from harness.files import locked, remove_tree, told
from harness.sandbox.runtime import PATHS, SETTINGS, TOOLS, Part

_STRIP, _STRIPPING = Path(__file__).with_name("strip.py"), (sys.executable, "-I", "-S", "-B", "-W", "ignore")
_COMPILED = "__pycache__"  # of the originals, with their documentation: a copy has its own
_WAIT_S, _KEPT_S = 600.0, 30 * 86_400.0  # for another run that makes them; after its last use


@cache
def with_copies(parts: tuple[Part, ...], folder: Path) -> tuple[Part, ...]:
    """``parts`` with the copies in ``folder`` that hide their sources; missing copies are made first, on all cores.

    A copy gets its name, a digest of its sources, only when it is complete, so an unfinished one is never used. Files
    are not synced: the digest includes the boot ID, so a copy that a power cut may have damaged is not used either.
    No cell may write to ``folder``. Raises ``CouldNotCheck`` if a copy can't be made.
    """
    made, jobs, copies = list[Part](), list[tuple[Path, Path]](), dict[Path, list[tuple[Path, Path]]]()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(prefix=".partial-", dir=folder)
        with locked(folder / ".lock", wait_s=_WAIT_S), beside as fresh:
            for part in parts:
                tops = {place.resolve(): place for place in part.mounts if part.name not in (TOOLS, SETTINGS)}
                new = [top for top in tops if top not in copies]  # parts may share a folder, as NVIDIA's do
                copies |= {top: _copy(top, folder, Path(fresh), jobs) for top in new}
                pairs = tuple(pair for top in new for pair in copies[top])
                seen = _seen(part, {tops[top]: copies[top] for top in tops if copies[top]})
                within = [at for at in part.listed if any(at.is_relative_to(tops[top]) for top in tops if copies[top])]
                compiled = [at / _COMPILED for at in within]  # that of a folder which is opened in part
                made.append(replace(part, paths=(*part.paths, *compiled), copies=pairs, seen=seen))
            jobs.sort(key=lambda job: -job[0].stat().st_size)
            listed = os.fsencode("".join(f"{path}\0" for job in jobs for path in job))
            if jobs:
                subprocess.run([*_STRIPPING, str(_STRIP)], input=listed, capture_output=True, check=True)
            for tree in Path(fresh).iterdir():
                if not (folder / tree.name).is_dir():  # there where another run took longer than _WAIT_S
                    tree.rename(folder / tree.name)
            used = {what.parent for pairs in copies.values() for what, _ in pairs[:1]}
            for tree in folder.iterdir():
                if tree in used:
                    os.utime(tree)
                elif time.time() - tree.lstat().st_mtime > _KEPT_S:  # packages that have changed since
                    remove_tree(tree)
    except (OSError, subprocess.CalledProcessError) as error:
        why = os.fsdecode(getattr(error, "stderr", b"")).strip().rpartition("\n")[2] or str(error)
        text = f"packages could not be copied without their documentation: {why}."
        remedy = "Set GOLF_CACHE_DIR to a folder that can be written, with 250 MB free."
        raise CouldNotCheck(text, remedy=remedy) from None
    return tuple(made)


def _copy(top: Path, folder: Path, fresh: Path, jobs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """The mounts that hide ``top``, in order, as (what, where): its copy first, then the originals that are not source.

    Empty if ``top`` holds no source. If ``folder`` has no such copy yet, its tree is made in ``fresh`` and the files
    still to be stripped are appended to ``jobs`` as (source, copy).
    """
    kinds = _kinds(top, PATHS["not_used"] if top == Path(sysconfig.get_path("stdlib")).resolve() else [])
    if not any(kinds.values()):
        return []
    digest = hashlib.sha256(sys.version.encode() + _STRIP.read_bytes())
    digest.update(told(Path("/proc/sys/kernel/random/boot_id")).encode())
    for path, is_source in kinds.items():
        found = path.lstat()
        state = (found.st_size, found.st_mtime_ns) if is_source or path.is_symlink() else stat.S_IFMT(found.st_mode)
        digest.update(f"{path}\0{is_source}\0{state}\0".encode("utf-8", "surrogateescape"))
    tree = folder / digest.hexdigest()[:32]
    for path, is_source in kinds.items() if not tree.is_dir() else ():
        target = fresh / tree.name / path.relative_to(top.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_source:
            jobs.append((path, target))
        elif path.is_symlink():
            target.symlink_to(path.readlink())
        else:
            target.mkdir() if path.is_dir() else target.touch()
    same = [(path, path) for path, is_source in kinds.items() if not is_source and not path.is_symlink()]
    return [(tree / top.name, top), *same]


def _kinds(path: Path, closed: list[str], in_tests: bool = False) -> dict[Path, bool]:
    """Files of source at and below a real path -> True; all else, in as few paths as possible -> False.

    closed: names of folders that no rule opens
    """
    if path.is_symlink() or not path.is_dir() or path.name in closed:
        return {path: path.suffix == ".py" and path.is_file() and not path.is_symlink()}
    in_tests |= path.name in PATHS["tests"]
    entries, found = sorted(path.iterdir()), dict[Path, bool]()
    for entry in entries:
        left_out = entry.name == _COMPILED or entry.suffix == ".pyi" or (in_tests and entry.name.startswith("test_"))
        found |= {} if left_out else _kinds(entry, closed, in_tests)
    return {path: False} if found == dict.fromkeys(entries, False) else found


def _seen(part: Part, copies: dict[Path, list[tuple[Path, Path]]]) -> tuple[Path, ...]:
    """Where the bytes are that the rules of ``part`` open, with ``copies`` over its places, which may be links."""
    seen = {path for path in part.paths if not any(path.is_relative_to(place) for place in copies)}
    for place, ((copy, top), *same) in copies.items():
        opened = {top / path.relative_to(place) for path in part.paths if path.is_relative_to(place)}
        kept = {path for path, _ in same}
        seen |= {copy, *(path for path in kept if not opened.isdisjoint((path, *path.parents)))}
        seen |= {path for path in opened if not kept.isdisjoint(path.parents)}
    return tuple(sorted(seen))
