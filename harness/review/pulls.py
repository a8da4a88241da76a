"""A whole challenge: every record folder that the pull requests of a local clone add, judged from git's objects.

Nothing is checked out and nothing of a pull request runs: ``git cat-file`` gives trees and blobs, without filters,
hooks or fetching. Folders whose tree was judged before, by the same checker and readings, are not judged again.
"""

import gc
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import msgspec

import harness
from harness.errors import CouldNotCheck, HarnessError
from harness.git import QUIET, git
from harness.review.findings import Findings, FolderReport, Readings
from harness.review.folder import GARBAGE, judge
from harness.review.output import folder_json
from harness.review.record import RECORD, read_record
from harness.review.source import MAX_ENTRIES, PASSED_OVER, TAIL_BYTES, Entry, Folder, read_listing, walk
from harness.rules import Verdict

REFS = re.compile(r"refs/(?:remotes/[^/]+/)?pull/(\d{1,9})(?:/head)?")
LARGEST_TREE = 8 << 20
LARGEST_BLOB = 256 << 20
"""Bytes of an object beyond which nothing of it is read."""
SLICE = 1 << 20
MAX_FOLDERS = 60  # record folders of one pull request that are judged
TREE_ENTRY = re.compile(rb"(\d++) ([^\0]++)\0(.{20})|.+", re.DOTALL)
"""A tree is read up to the first bytes that are not an entry."""
TREE_MODES = {b"40000": "tree", b"100644": "file", b"100755": "file", b"100664": "file", b"120000": "link"}


class Pull(msgspec.Struct, frozen=True):
    """A pull request's head: number, commit, and when it was committed (ISO 8601)."""

    number: int
    commit: str
    date: str


class Added(msgspec.Struct, frozen=True):
    """A record folder that a pull request adds: its path in the repository and its tree."""

    pull: Pull
    path: str
    tree: str


class Judged(msgspec.Struct, frozen=True):
    """One line of the result: what was added, and the report on it in the JSON form."""

    added: Added
    key: str
    report: dict[str, Any]

    def line(self) -> bytes:
        """As a line of JSON, in ASCII: names in a repository need not be UTF-8."""
        return json.dumps(msgspec.to_builtins(self), ensure_ascii=True).encode() + b"\n"


class Objects:
    """Objects of a repository through one ``git cat-file --batch``, within bounds."""

    def __init__(self, repository: Path) -> None:
        bounds = ("core.bigFileThreshold=16m", "core.deltaBaseCacheLimit=32m", "core.packedGitLimit=256m")
        settings = [part for setting in bounds for part in ("-c", setting)]
        command = ["git", "-C", str(repository), *settings, "cat-file"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": os.environ | QUIET}
        self._processes = [subprocess.Popen([*command, f"--batch{kind}"], **pipes) for kind in ("", "-check")]

    def close(self) -> None:
        """End the two processes."""
        for process in self._processes:
            process.communicate()

    def _ask(self, which: int, name: str) -> tuple[int, IO[bytes]]:
        to, stream = self._processes[which].stdin, self._processes[which].stdout
        assert to is not None
        assert stream is not None
        to.write(name.encode() + b"\n")
        to.flush()
        words = stream.readline().decode().split()
        if len(words) != 3:
            raise OSError(0, f"git has no object {name[:60]}")
        return int(words[2]), stream

    def size(self, name: str) -> int:
        """Bytes of an object. Raises ``OSError`` when it is missing, as in a shallow or partial clone."""
        return self._ask(1, name)[0]

    def read(self, name: str, limit: int) -> tuple[bytes, bool]:
        """An object's bytes and whether they are all; of a longer one head and tail, of a huge one nothing."""
        if self.size(name) > LARGEST_BLOB:
            return b"", False
        size, stream = self._ask(0, name)
        tail = min(TAIL_BYTES, limit // 4)
        head = stream.read(min(size, limit if size <= limit else limit - tail))
        left, last = size - len(head), b""
        while left > 0:
            piece = stream.read(min(left, SLICE))
            if not piece:
                raise OSError(0, "git ended early")
            left -= len(piece)
            last = (last + piece)[-tail:]
        stream.read(1)
        return (head, True) if size <= limit else (head + b"\n" + last, False)

    def tree(self, name: str) -> list[tuple[str, str, str]]:
        """Entries of a tree: kind ("tree", "file", "link", "other"), name, object. A huge tree is cut."""
        found = TREE_ENTRY.findall(self.read(name, LARGEST_TREE)[0])
        return [(TREE_MODES.get(mode, "other"), os.fsdecode(own), child.hex()) for mode, own, child in found if mode]


def list_pulls(repository: Path) -> list[Pull]:
    """The heads of pull requests that the clone has, by number."""
    form = "%(refname)%09%(objectname)%09%(committerdate:iso-strict)"
    lines = git(repository, "for-each-ref", f"--format={form}", "refs/pull", "refs/remotes").decode("utf-8", "replace")
    refs = (line.split("\t") for line in lines.split("\n") if line)
    hits = ((REFS.fullmatch(ref), commit, date) for ref, commit, date in refs)
    found = {int(hit[1]): Pull(int(hit[1]), commit, date) for hit, commit, date in hits if hit and date}
    if not found:
        remedy = "Fetch them: git fetch origin '+refs/pull/*/head:refs/pull/*/head'."
        raise CouldNotCheck(f"{repository} has no refs/pull/*/head.", remedy=remedy)
    return [found[number] for number in sorted(found)]


def fork_of(repository: Path, base: str, pull: Pull) -> str:
    """The commit of the base that the pull request began from; empty when they have no history in common."""
    fork = git(repository, "merge-base", base, pull.commit, check=False).decode().strip()
    if fork != pull.commit:
        return fork
    # Merged by a merge commit: the base as it was before that.
    merges = git(repository, "rev-list", "--first-parent", "--ancestry-path", f"{pull.commit}..{base}", check=False)
    merge = merges.decode().split()[-1:]
    before = git(repository, "merge-base", f"{merge[0]}^1", pull.commit, check=False).decode().strip() if merge else ""
    return before if before and before != pull.commit else f"{pull.commit}^"


def list_added(repository: Path, base: str, pulls: Iterable[Pull]) -> Iterator[tuple[Pull, list[Added]]]:
    """For each pull request the record folders that it adds or changes, against the base where it began."""
    objects = Objects(repository)

    @cache
    def records(tree: str, depth: int = 0) -> dict[str, str]:
        """Path -> tree of every record folder below."""
        found: dict[str, str] = {}
        for kind, name, child in objects.tree(tree)[:MAX_ENTRIES] if depth < 5 else ():
            if kind == "tree" and name.startswith("track_"):
                found |= {f"{name}/{n}": c for k, n, c in objects.tree(child) if k == "tree"}
            elif kind == "tree" and name not in PASSED_OVER:
                found |= {f"{name}/{path}": c for path, c in records(child, depth + 1).items()}
        return found

    try:
        for pull in pulls:
            try:
                fork = fork_of(repository, base, pull)
                before, now = (records(f"{commit}^{{tree}}") for commit in (fork or base, pull.commit))
            except OSError:
                yield pull, []
                continue
            new = [Added(pull, path, tree) for path, tree in sorted(now.items()) if path not in before]
            yield pull, new[:MAX_FOLDERS]
    finally:
        objects.close()


def open_tree(objects: Objects, added: Added, readings: Readings, out: Findings) -> Folder:
    """A record folder as :func:`harness.review.source.open_folder` gives one, from git's objects."""
    ids = {"": added.tree}

    def scan(prefix: str) -> Iterator[Entry]:
        for kind, name, child in objects.tree(ids[prefix]):
            ids[f"{prefix}{name}{'/' if kind == 'tree' else ''}"] = child
            yield kind, name, objects.size(child) if kind == "file" else 0

    sizes = walk(scan, out)
    parent, own = added.path.split("/")[-2:]
    folder = Folder(own, parent, sizes, lambda name, limit: objects.read(ids[name], limit))
    read_listing(folder, readings, out)
    return folder


_objects = cache(Objects)
"""The one reader of a worker process."""


def _judge(repository: Path, readings: Readings, added: Added) -> FolderReport:
    out = Findings()
    try:
        folder = open_tree(_objects(repository), added, readings, out)
        return judge(read_record(folder, readings, out), added.path)
    except (OSError, HarnessError) as error:
        out.add(Verdict.ERROR, "A9-READABLE", f"the folder can't be read: {str(error)[:120]}.")
        return FolderReport(added.path, RECORD, out.merged())


def key_of(added: Added, readings: Readings) -> str:
    """Identity of a judgement: the tree, where it is filed, the checker and the readings."""
    words = (added.tree, *added.path.split("/")[-2:], harness.__version__, _checker(), repr(readings))
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:32]


@cache
def _checker() -> str:
    """Digest of the checker's own code, so that a changed checker judges again."""
    files = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".py", ".toml"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def read_judged(path: Path) -> dict[str, dict[str, Any]]:
    """Reports of an earlier run by key; a last line that was cut off is passed over."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with suppress(ValueError, KeyError, TypeError):
            item = json.loads(line)
            found[item["key"]] = item["report"]
    return found


def judge_all(
    repository: Path, added: list[Added], readings: Readings, known: dict[str, dict[str, Any]], jobs: int
) -> Iterator[Judged]:
    """Judge every folder, each tree once, on ``jobs`` processes; as they are done, those known already first.

    Raises ``CouldNotCheck`` when a process is killed.
    """
    waiting: dict[str, list[Added]] = {}
    for item in added:
        key = key_of(item, readings)
        if key in known:
            yield Judged(item, key, known[key])
        else:
            waiting.setdefault(key, []).append(item)
    if not waiting:
        return
    with ProcessPoolExecutor(jobs, initializer=gc.set_threshold, initargs=(GARBAGE,)) as pool:
        firsts = [items[0] for items in waiting.values()]
        reports = pool.map(partial(_judge, repository, readings), firsts, chunksize=4)
        try:
            for (key, items), report in zip(waiting.items(), reports, strict=True):
                plain = folder_json(report)
                for item in items:
                    yield Judged(item, key, plain)
        except BrokenProcessPool:
            words = "a process that judged folders was killed; the kernel does that when memory runs out."
            remedy = "Free some memory, or --jobs 1; what is judged already is kept."
            raise CouldNotCheck(words, remedy=remedy) from None
