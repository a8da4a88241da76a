"""Which record folders a change touches, by git: what a pull request adds, or what is staged."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CouldNotCheck
from harness.public.findings import Findings, FolderReport
from harness.public.render import plain

FOLDER = re.compile(r"((?:[^/]+/)*track_[^/]+/[^/]+)/.+")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Change:
    """The record ``folders`` that a change touches and still has, and the ``others``: files outside any of them."""

    folders: tuple[Path, ...]
    others: tuple[str, ...]


def changed_since(base: str, repository: Path) -> Change:
    """What HEAD has that ``base`` has not. Raises ``CouldNotCheck`` when git can't tell."""
    if base.startswith("-"):
        raise CouldNotCheck(
            f"{plain(base)!r} is no git revision.", remedy="Give a branch, tag or commit, such as origin/main."
        )
    return _change(["diff", "--name-only", "-z", "--no-renames", f"{base}...HEAD"], repository)


def staged(repository: Path) -> Change:
    """What is staged for the next commit. Raises ``CouldNotCheck`` when git can't tell."""
    return _change(["diff", "--name-only", "-z", "--no-renames", "--cached"], repository)


def _change(arguments: list[str], repository: Path) -> Change:
    top = Path(_git(["rev-parse", "--show-toplevel"], repository).strip())
    names = [name for name in _git(arguments, repository).split("\0") if name]
    hits = {name: found[1] for name in names if (found := FOLDER.fullmatch(name))}
    folders = tuple(top / name for name in dict.fromkeys(hits.values()) if (top / name).is_dir())
    return Change(folders, tuple(name for name in names if name not in hits))


def _git(arguments: list[str], repository: Path) -> str:
    command = ["git", "-C", str(repository), "--no-pager", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CouldNotCheck(
            f"git {arguments[0]} could not be run in {repository}: {error}.",
            remedy="Install git, or name the folders instead of --changed-from or --staged.",
        ) from error
    if done.returncode:
        reason = plain(done.stderr.decode("utf-8", "replace").strip())
        raise CouldNotCheck(f"git {arguments[0]}: {reason}", remedy="Fetch the whole history (fetch-depth: 0).")
    return done.stdout.decode("utf-8", "surrogateescape")


def judge_change(reports: list[FolderReport], change: Change) -> list[FolderReport]:
    """The reports, the first with a finding on whether the pull request adds one folder and nothing else."""
    if not reports:
        return reports
    out = Findings()
    if len(change.folders) > 1:
        names = ", ".join(plain(folder.name, 80) for folder in change.folders[:5])
        message = f"the pull request touches {len(change.folders)} record folders."
        out.fail("A9-ONE-FOLDER", message, found=names, computed="1", remedy="Open one pull request a record.")
    elif change.others:
        message = f"the pull request also touches {len(change.others)} file(s) outside its record folder."
        names = ", ".join(plain(name, 80) for name in change.others[:5])
        out.fail("A9-ONE-FOLDER", message, found=names, remedy="Move them to a pull request of their own.")
    else:
        out.passed("A9-ONE-FOLDER", "the pull request adds one folder and nothing else.")
    first = reports[0]
    return [FolderReport(first.folder, first.track, [*out.items, *first.findings], first.facts), *reports[1:]]
