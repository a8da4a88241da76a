"""Level 1 verification, offline: signatures, schema, chain, intents, arithmetic, caps; every record, every time.

What is not covered: whether the raw figures were measured honestly (levels 2 and 3 score the artifact again and
repeat the run), and a chain cut back together with its head (see :mod:`harness.record.chain`).
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from harness.errors import CouldNotCheck, ExitCode, UsageError
from harness.record import dsse
from harness.record.arithmetic import check_figures, check_names, check_run
from harness.record.canonical import locked, read_bounded
from harness.record.chain import Link, check_chains, check_copies
from harness.record.predicate import PREDICATE_TYPE_V1, RunRecord
from harness.record.reviews import check_reviews
from harness.record.schema import schema_problem
from harness.record.statement import (
    CHAIN_FOLDERS,
    Entry,
    MalformedEntry,
    date_of,
    file_name,
    read_entry,
    subjects_of,
)
from harness.record.trust import Accepted, PublicKey, Role, accepted_keys, first_key, signing_problem
from harness.rules import Finding, Verdict, exit_code_of, worst


@dataclass(frozen=True)
class EntryReport:
    """What was found about one file. ``name`` is relative to the records folder; ``entry``: ``None`` if unreadable."""

    name: str
    path: Path
    entry: Entry | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict on this file."""
        return worst(self.findings)

    @property
    def record(self) -> RunRecord | None:
        """The run record in the file, where it holds one."""
        predicate = self.entry.predicate if self.entry else None
        return predicate if isinstance(predicate, RunRecord) else None


@dataclass(frozen=True)
class VerifyReport:
    """What was found in a records folder: by file, and about the folder (keys, heads)."""

    records_dir: Path
    entries: tuple[EntryReport, ...]
    folder: tuple[Finding, ...]
    accepted: Accepted

    @property
    def records(self) -> tuple[EntryReport, ...]:
        """The files under ``runs/``."""
        return tuple(report for report in self.entries if report.name.startswith("runs/"))

    def owner_of(self, report: EntryReport) -> str:
        """The first key of the rotations that lead to the signer's: whose results belong together."""
        return first_key(report.entry.signer, self.accepted.keys) if report.entry else ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, those of single files with the file in ``where``."""
        return (*(finding for report in self.entries for finding in report.findings), *self.folder)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all."""
        return worst(self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """0 pass or warn, 1 something failed, 3 something could not be checked."""
        return exit_code_of(self.findings)

    def findings_of(self, chosen: tuple[EntryReport, ...]) -> tuple[Finding, ...]:
        """Findings on ``chosen`` files, and those about the folder as a whole."""
        return (*(finding for report in chosen for finding in report.findings), *self.folder)


def verify_folder(
    records_dir: Path, *, trust: Path | None = None, root: str = "", judge_runs: bool = True
) -> VerifyReport:
    """Verify every entry of a records folder.

    trust:      folder of accepted public keys; the records folder's own ``keys/`` by default
    root:       id of the key that the signed list of keys must go back to; "" for any
    judge_runs: also report what a record says against its own run (a cap missed, an audit failed)
    Raises ``CouldNotCheck`` when the folder can't be opened.
    """
    if not records_dir.is_dir():
        raise CouldNotCheck(f"{records_dir} is not a folder.", remedy="Give the folder that holds runs/ and keys/.")
    if trust and not any(trust.glob("*.json")):
        raise UsageError(f"{trust} holds no public keys.", remedy="--trust names a folder like records/keys.")
    with locked(records_dir, shared=True), _no_collection():
        return _verify(records_dir, accepted_keys(trust or records_dir / "keys", root), judge_runs=judge_runs)


def verify_paths(
    paths: Sequence[Path], *, trust: Path | None = None, root: str = "", judge_runs: bool = True
) -> list[tuple[VerifyReport, tuple[EntryReport, ...]]]:
    """Verify records folders, and single files with the folder around them: each report, and what was asked for in it.

    Raises ``CouldNotCheck`` for a path that does not exist, a file that lies in no records folder, and an empty folder.
    """
    folders: dict[Path, set[Path] | None] = {}
    for path in paths:
        around = path.absolute().parent.parent
        if path.is_dir():
            folders[path] = None
        elif not path.exists():
            raise CouldNotCheck(f"{path} does not exist.", remedy="`make submit SEED=1337` makes a record.")
        elif not path.is_file() or not (around / "keys").is_dir():
            raise CouldNotCheck(
                f"{path} is not a record in a records folder (keys/ beside runs/).",
                remedy="Put it into one: its keys and its chain are judged with it.",
            )
        elif (chosen := folders.setdefault(around, set())) is not None:
            chosen.add(path.absolute())
    found = []
    for folder, files in folders.items():
        report = verify_folder(folder, trust=trust, root=root, judge_runs=judge_runs)
        if not report.entries and not report.folder:
            remedy = "Name another folder; `make submit SEED=1337` makes a record."
            raise CouldNotCheck(f"{folder} holds no records.", remedy=remedy)
        entries = tuple(entry for entry in report.entries if files is None or entry.path.absolute() in files)
        if files and (missing := files - {entry.path.absolute() for entry in entries}):
            raise CouldNotCheck(
                f"{', '.join(sorted(map(str, missing)))}: not under runs/, intents/, reviews/ or heads/ of its folder.",
                remedy="Put it there; keys and chain are judged with it.",
            )
        found.append((report, entries))
    return found


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the cycle collector: no cycles arise here, and walking the growing result would cost a quarter more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _verify(records_dir: Path, accepted: Accepted, *, judge_runs: bool) -> VerifyReport:
    keys = accepted.keys
    folder = [Finding("R1-SIGNATURE", Verdict.FAIL, text, where=path.name) for path, text in accepted.bad.items()]
    files = [(path, name) for name in (*CHAIN_FOLDERS, "heads") for path in sorted((records_dir / name).glob("*.json"))]
    judged = [judge_file(path, name, keys, judge_runs=judge_runs) for path, name in files]
    sound = [Link(r.path, r.entry) for r in judged if r.entry and not _forged(r)]
    links = [link for link in sound if link.entry.folder != "heads"]
    chain = check_chains(links, [link for link in sound if link.entry.folder == "heads"])
    chain += [*check_copies(links), *check_reviews(links, accepted)]
    folder += [*_undatable(links, accepted), *_kept(records_dir)]
    names = {report.name for report in judged}
    folder += [finding for finding in chain if finding.where not in names]
    return VerifyReport(records_dir, tuple(_with_chain(judged, chain)), tuple(folder), accepted)


def _kept(records_dir: Path) -> Iterator[Finding]:
    """Files of artifacts are kept under their digest."""
    for path in sorted((records_dir / "artifacts").glob("*")):
        name = f"artifacts/{path.name}"
        try:
            if not path.name.startswith(".") and hashlib.sha256(read_bounded(path)).hexdigest() != path.name:
                yield Finding("A3-CONTAINER", Verdict.FAIL, "is not the file whose digest is its name", where=name)
        except CouldNotCheck as error:
            yield Finding("A3-CONTAINER", Verdict.ERROR, str(error), where=name)


def _undatable(links: Sequence[Link], accepted: Accepted) -> Iterator[Finding]:
    """A key that is retired can still sign: what it dated back before then, nothing in the folder tells apart."""
    for keyid in sorted({link.entry.signer for link in links}):
        if accepted.keys[keyid].status == "retired":
            text = f"key {keyid[:16]} is retired; its dates are its own word, unless a timestamp or history backs them"
            yield Finding("R1-SIGNATURE", Verdict.WARN, text)


def _forged(report: EntryReport) -> bool:
    return any(f.rule in ("R1-SIGNATURE", "R2-SCHEMA") and f.verdict is Verdict.FAIL for f in report.findings)


def _with_chain(judged: list[EntryReport], chain: list[Finding]) -> Iterator[EntryReport]:
    by_file: dict[str, list[Finding]] = {}
    for finding in chain:
        by_file.setdefault(finding.where, []).append(finding)
    for report in judged:
        extra = by_file.get(report.name, [])
        if (
            not any(finding.rule == "R3-CHAIN" for finding in extra)
            and report.entry
            and not _forged(report)
            and report.entry.folder != "heads"
        ):
            extra = [*extra, Finding("R3-CHAIN", Verdict.PASS, "stands in its signer's chain", where=report.name)]
        yield replace(report, findings=(*report.findings, *extra))


def judge_file(path: Path, folder: str, keys: dict[str, PublicKey], *, judge_runs: bool = True) -> EntryReport:
    """Everything that one file shows by itself."""
    name = f"{folder}/{path.name}"
    entry: Entry | None = None
    try:  # 1. Read with bounds, as JSON that means one thing to every reader; a file that is not is no evidence.
        entry = read_entry(path, folder)
    except MalformedEntry as error:
        found = [Finding("R2-SCHEMA", Verdict.FAIL, str(error), where=name)]
    except CouldNotCheck as error:
        found = [Finding("R2-SCHEMA", Verdict.ERROR, str(error), where=name)]
    else:
        # 2. The form of its version; 3. the signature of a key trusted at its date; 4. names that follow from it.
        found = [*_schema(entry), *_signatures(entry, keys), *_identity(entry, path)]
        if isinstance(entry.predicate, RunRecord):
            try:  # 5. Every derived figure again from the raw ones; names and terms; then the run by its own figures.
                found += check_figures(entry.predicate) + check_names(entry.predicate)
                found += check_run(entry.predicate) if judge_runs else []
            except (ArithmeticError, ValueError) as error:  # one file with absurd figures must stop no other
                found.append(Finding("R4-ARITHMETIC", Verdict.FAIL, f"its figures can't be computed with: {error}"))
    places = (name if f.where in ("", name) else f"{name}: {f.where}" for f in found)
    placed = [msgspec.structs.replace(f, where=where) for f, where in zip(found, places, strict=True)]
    return EntryReport(name, path, entry, tuple(placed))


def _schema(entry: Entry) -> Iterator[Finding]:
    problem = schema_problem(entry)
    if problem:
        yield Finding("R2-SCHEMA", Verdict.FAIL, problem)
    elif entry.predicate_type == PREDICATE_TYPE_V1:
        text = "is of version 1, which does not say what referee and packages it was made with"
        yield Finding("R2-SCHEMA", Verdict.WARN, text)
    else:
        yield Finding("R2-SCHEMA", Verdict.PASS, "follows its schema")


def _signatures(entry: Entry, keys: dict[str, PublicKey]) -> Iterator[Finding]:
    dated, role = date_of(entry.predicate), _ROLES.get(entry.folder)
    for signature in entry.envelope.signatures:
        key = keys.get(signature.keyid)
        if key is None:
            problem = f"signed by the unknown key {signature.keyid[:16]}, which is not in the trust list"
        else:
            try:
                problem = f"the signature under key {signature.keyid[:16]} does not fit the content"
                if dsse.is_signed_by(entry.envelope, signature, key.loaded()):
                    problem = signing_problem(key, dated, role)
            except ValueError as error:  # a listed key or date that can't be read
                problem = f"key {signature.keyid[:16]}: {error}"
        if problem:
            yield Finding("R1-SIGNATURE", Verdict.FAIL, problem)
        else:
            yield Finding("R1-SIGNATURE", Verdict.PASS, f"signed by {signature.keyid[:16]}")
    if len(entry.envelope.signatures) > 1:
        yield Finding("R1-SIGNATURE", Verdict.FAIL, "carries several signatures; further ones belong into reviews/")


_ROLES: dict[str, Role] = {"runs": "runner", "intents": "runner", "reviews": "reviewer"}


def _identity(entry: Entry, path: Path) -> Iterator[Finding]:
    if entry.subjects != subjects_of(entry.predicate):
        yield Finding("R2-SCHEMA", Verdict.FAIL, "subjects are not the artifact, code and data that the record names")
    try:
        wanted = f"{entry.signer}.json" if entry.folder == "heads" else file_name(entry.predicate, entry.digest)
    except ValueError as error:
        yield Finding("R2-SCHEMA", Verdict.FAIL, str(error))
        return
    if path.name != wanted:
        yield Finding("R3-CHAIN", Verdict.FAIL, f"is called {path.name}; its content is called {wanted}")
