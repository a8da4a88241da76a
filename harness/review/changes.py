"""Which record folders a change touches, by git: what a pull request adds, or what is staged."""

import re
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from harness.errors import CouldNotCheck
from harness.git import git
from harness.review.findings import Findings, FolderReport
from harness.review.output import plain
from harness.review.record import RECORD

FOLDER = re.compile(r"((?:[^/]+/)*?track_[^/]+/[^/]+)/.+")
NAMED = 5
"""So many files or folders a finding names."""
VERBS = {"M": "edits", "D": "deletes", "T": "changes the kind of"}


@dataclass(frozen=True)
class Change:
    """What a change does to the records of a repository.

    folders: record folders that it touches and that are still there
    known:   folders of these that the base has already, as paths in the repository
    altered: what it does to files of records other than to add them, such as ("edits", "records/…/README.md")
    others:  files outside any record folder
    """

    folders: tuple[Path, ...]
    known: tuple[str, ...]
    altered: tuple[tuple[str, str], ...]
    others: tuple[str, ...]


def change_of(repository: Path, base: str | None) -> Change:
    """What HEAD has that ``base`` has not, or without a base what is staged. Raises ``CouldNotCheck``."""
    if base and base.startswith("-"):
        remedy = "Give a branch, tag or commit, such as origin/main."
        raise CouldNotCheck(f"{plain(base)!r} is not a git revision.", remedy=remedy)

    def ask(place: Path, *words: str) -> str:
        return git(place, *words).decode("utf-8", "surrogateescape")

    top = Path(ask(repository, "rev-parse", "--show-toplevel").strip("\n"))
    compared = f"{base}...HEAD" if base else "--cached"
    fields = ask(repository, "diff", "--name-status", "-z", "--no-renames", compared).split("\0")
    status = dict(zip(fields[1::2], fields[::2], strict=False))
    hits = {name: found[1] for name in status if (found := FOLDER.fullmatch(name))}
    names = tuple(dict.fromkeys(hits.values()))
    # Whether the base holds a folder: at its tip, or where the change left it.
    revisions = (base, ask(top, "merge-base", base, "HEAD").strip()) if base and names else ()
    known = (name for name in names if any(ask(top, "ls-tree", "--name-only", "-z", r, "--", name) for r in revisions))
    altered = ((VERBS.get(status[name][:1], "changes"), name) for name in hits if status[name] != "A")
    here = tuple(top / name for name in names if (top / name).is_dir())
    return Change(here, tuple(known), tuple(altered), tuple(name for name in status if name not in hits))


def judge_change(reports: list[FolderReport], change: Change) -> list[FolderReport]:
    """The reports, with a finding on whether the pull request adds one folder and nothing else.

    It stands in the first report; a change that leaves no folder to check gets a report of its own.
    """
    out, folders, others = Findings(), change.folders, change.others
    changed = tuple(f"{verb} {name}" for verb, name in change.altered)
    several = tuple(folder.name for folder in folders)
    for broken, message, names, remedy in (
        (changed, "changes records that are there already", changed, "Leave the records of others as they are."),
        (change.known and not changed, "adds files to a record folder that the base has already", change.known,
         "Add a folder of your own, with a new name."),
        (len(folders) > 1, f"touches {len(folders)} record folders", several, "Open one pull request a record."),
        (others and folders, f"also touches {len(others)} file(s) outside its record folder", others,
         "Move them to a pull request of their own."),
        (others and not folders, "adds no record folder", others,
         "Add one folder, records/track_…/NAME, with all of its files inside."),
    ):  # fmt: skip
        if broken:
            found = ", ".join(plain(name, 100) for name in names[:NAMED])
            found += f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            out.fail("A9-ONE-FOLDER", f"the pull request {message}.", found=found, remedy=remedy)
    if folders and not out.items:
        out.passed("A9-ONE-FOLDER", "the pull request adds one folder and nothing else.")
    if not reports and out.items:
        where = (*(name for _, name in change.altered), *others)[0]
        items = [structs.replace(item, file=where) for item in out.items]
        return [FolderReport(".", RECORD, items)]
    return [structs.replace(report, findings=[*out.items, *report.findings]) for report in reports[:1]] + reports[1:]
