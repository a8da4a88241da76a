"""Level 1 verification, offline: signatures, schema, chain, intents, arithmetic, caps; every record, every time.

What is not covered: whether the raw figures were measured honestly (levels 2 and 3 score the artifact again and
repeat the run), and a chain cut back together with its head (see :mod:`harness.record.chain`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from harness.errors import CouldNotCheck, UsageError
from harness.record import dsse
from harness.record.arithmetic import check_figures, check_names, check_run
from harness.record.canonical import locked, read_bounded, utc_now
from harness.record.chain import check_chains, check_copies
from harness.record.predicate import Intent, RunRecord
from harness.record.reproduce import check_reviews
from harness.record.statement import CHAIN_FOLDERS, KINDS, Entry, date_of, file_name, read_entry, schema_problem
from harness.record.trust import Accepted, PublicKey, Role, accepted_keys, first_key, signing_problem
from harness.rules import Finding, Verdict, worst

PROOF = ("R1-SIGNATURE", "R2-SCHEMA")
ROLES: dict[str, Role] = {"runs": "runner", "intents": "runner", "reviews": "reviewer"}


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
    def sound(self) -> bool:
        """Whether it is well-formed and rightly signed: only that may speak about other files."""
        return not any(f.verdict is Verdict.FAIL and f.rule in PROOF for f in self.findings)

    @property
    def record(self) -> RunRecord | None:
        """The run record in the file, where it holds one."""
        predicate = self.entry.predicate if self.entry else None
        return predicate if isinstance(predicate, RunRecord) else None


@dataclass(frozen=True)
class VerifyReport:
    """What was found in a records folder: by file, and about the folder (keys, heads); ``asked``: the files meant."""

    records_dir: Path
    entries: tuple[EntryReport, ...]
    folder: tuple[Finding, ...]
    accepted: Accepted
    asked: tuple[EntryReport, ...]

    @property
    def records(self) -> tuple[EntryReport, ...]:
        """The files under ``runs/`` that were asked for."""
        return tuple(report for report in self.asked if report.name.startswith("runs/"))

    def owner_of(self, report: EntryReport) -> str:
        """The first key of the rotations that lead to the signer's: whose results belong together."""
        return first_key(report.entry.signer, self.accepted.keys) if report.entry else ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings on the files that were asked for, each with the file in ``where``, and those about the folder."""
        return (*(finding for report in self.asked for finding in report.findings), *self.folder)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all."""
        return worst(self.findings)


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
    with locked(records_dir, shared=True):
        accepted = accepted_keys(trust or records_dir / "keys", root)
        judged = [
            judge_file(path, folder, accepted.keys, judge_runs=judge_runs)
            for folder in (*CHAIN_FOLDERS, "heads")
            for path in sorted((records_dir / folder).glob("*.json"))
        ]
        about = [Finding("R1-SIGNATURE", Verdict.FAIL, text, where=path.name) for path, text in accepted.bad.items()]
    sound = [report.entry for report in judged if report.entry and report.sound]
    links = [entry for entry in sound if entry.folder != "heads"]
    for key in (accepted.keys[keyid] for keyid in sorted({entry.signer for entry in links})):
        if (retired := key.status == "retired") or "" < key.not_after < utc_now():
            word = "retired" if retired else "expired"
            text = f"key {key.keyid[:16]} is {word}; its dates are its own word, without a timestamp or history"
            about.append(Finding("R1-SIGNATURE", Verdict.WARN, text))
    of_file: dict[str, list[Finding]] = defaultdict(list)
    whole = check_chains(sound), check_copies(links), check_reviews(links, accepted), check_kept(records_dir, links)
    for finding in chain(*whole):
        of_file[finding.where].append(finding)
    for name in {entry.name for entry in links}:
        if not any(finding.rule == "R3-CHAIN" for finding in of_file[name]):
            of_file[name].append(Finding("R3-CHAIN", Verdict.PASS, "stands in its signer's chain", where=name))
    entries = tuple(replace(one, findings=(*one.findings, *of_file.pop(one.name, ()))) for one in judged)
    about += [finding for found in of_file.values() for finding in found]
    return VerifyReport(records_dir, entries, tuple(about), accepted, asked=entries)


def check_kept(records_dir: Path, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Files of artifacts are kept under their digest, and are as large as records of them say."""
    counted: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, record in ((entry.name, entry.predicate) for entry in entries):
        if isinstance(record, RunRecord):
            counted[record.artifact_digest].append((name, record.sizes.model_bytes))
            if record.kind == "refereed" and record.track.readings.get("code_bytes") == "bundle":
                counted[record.submission.code_digest].append((name, record.sizes.code_bytes))
    for path in sorted((records_dir / "artifacts").glob("[!.]*")):
        name = f"artifacts/{path.name}"
        try:
            if hashlib.sha256(data := read_bounded(path)).hexdigest() != path.name:
                yield Finding("A3-CONTAINER", Verdict.FAIL, "is not the file whose digest is its name", where=name)
                continue
            for where, text in ((where, f"counts {n:,} bytes") for where, n in counted[path.name] if n != len(data)):
                text = f"{text} for {name[:22]}…, which has {len(data):,}"
                yield Finding("A3-ARTIFACT-BYTES", Verdict.FAIL, text, where=where)
        except CouldNotCheck as error:
            yield Finding("A3-CONTAINER", Verdict.ERROR, str(error), where=name)


def verify_paths(
    paths: Sequence[Path], *, trust: Path | None = None, root: str = "", judge_runs: bool = True
) -> list[VerifyReport]:
    """Verify records folders, and single files with the folder around them.

    Raises ``CouldNotCheck`` for a path that does not exist, a file that lies in no records folder, and an empty folder.
    """
    folders: dict[Path, set[Path] | None] = {}
    for path in paths:
        around = path.absolute().parent.parent
        if path.is_dir():
            folders[path] = None
        elif not path.exists():
            raise CouldNotCheck(f"{path} does not exist.", remedy="`harness submit` makes a record.")
        elif not path.is_file() or path.suffix != ".json" or path.absolute().parent.name not in KINDS:
            text = f"{path} is not a record in runs/, intents/, reviews/ or heads/ of a records folder."
            raise CouldNotCheck(text, remedy="Put it into one: its keys and its chain are judged with it.")
        elif not (around / "keys").is_dir():
            raise CouldNotCheck(f"{path} has no keys/ beside its folder.", remedy="Its keys are judged with it.")
        elif (chosen := folders.setdefault(around, set())) is not None:
            chosen.add(path.absolute())
    found = []
    for folder, files in folders.items():
        report = verify_folder(folder, trust=trust, root=root, judge_runs=judge_runs)
        if not report.entries and not report.folder:
            remedy = "Name another folder; `harness submit` makes a record."
            raise CouldNotCheck(f"{folder} holds no records.", remedy=remedy)
        asked = [entry for entry in report.entries if files is None or entry.path.absolute() in files]
        for one in beside(report, asked):  # no fault of single files
            against = (msgspec.structs.replace(f, verdict=Verdict.WARN) for f in one.findings if f.verdict != "PASS")
            asked.append(replace(one, findings=tuple(against)))
        found.append(replace(report, asked=tuple(asked)))
    # A copy of a result may lie in the copier's own folder.
    copies = [*check_copies(one.entry for report in found for one in report.asked if one.entry and one.sound)]
    for at, report in enumerate(found):
        own = ((one, (f for f in copies if f.where == one.name and f not in one.findings)) for one in report.asked)
        found[at] = replace(report, asked=tuple(replace(one, findings=(*one.findings, *more)) for one, more in own))
    return found


def beside(report: VerifyReport, asked: Sequence[EntryReport]) -> Iterator[EntryReport]:
    """What does not pass of the chains of records: their ends, gaps, and runs of the same thing without a result."""
    runs = [(one.entry.signer, one.record.submission) for one in asked if one.entry and one.record]
    things, signers = {(who, run.code_digest, run.config_digest) for who, run in runs}, {who for who, _ in runs}
    for one in report.entries:
        it, signer = (one.entry.predicate, one.entry.signer) if one.entry else (None, "")
        alike = isinstance(it, Intent) and (signer, it.code_digest, it.config_digest) in things
        gap = one.sound and one.verdict is Verdict.FAIL and not one.record and signer in signers
        end = one.name.removeprefix("heads/").removesuffix(".json") in signers
        if (alike or gap or end) and one.verdict is not Verdict.PASS and one not in asked:
            yield one


def judge_file(path: Path, folder: str, keys: dict[str, PublicKey], *, judge_runs: bool = True) -> EntryReport:
    """Everything that one file shows by itself."""
    name = f"{folder}/{path.name}"
    entry: Entry | None = None
    found: list[Finding] = []
    try:  # 1. Read with bounds, as JSON that means one thing to every reader; a file that is not is no evidence.
        entry = read_entry(path, folder)
    except ValueError as error:
        found.append(Finding("R2-SCHEMA", Verdict.FAIL, str(error)))
    except CouldNotCheck as error:
        found.append(Finding("R2-SCHEMA", Verdict.ERROR, str(error)))
    else:
        # 2. The form of its version, and names that follow from it; 3. the signature of a key trusted at its date.
        found += [*check_form(entry), check_signature(entry, keys)]
        if isinstance(entry.predicate, RunRecord):
            try:  # 4. Every derived figure again from the raw ones; names and terms; then the run by its own figures.
                found += [*check_figures(entry.predicate), *check_names(entry.predicate)]
                found += check_run(entry.predicate) if judge_runs else []
            except (ArithmeticError, ValueError) as error:  # one file with absurd figures must stop no other
                found.append(Finding("R4-ARITHMETIC", Verdict.FAIL, f"its figures can't be computed with: {error}"))
    placed = (msgspec.structs.replace(f, where=f"{name}: {f.where}" if f.where else name) for f in found)
    return EntryReport(name, path, entry, tuple(placed))


def check_form(entry: Entry) -> Iterator[Finding]:
    """Its schema [R2-SCHEMA], and the name that follows from its content."""
    if problem := schema_problem(entry.predicate_type, entry.envelope.payload):
        yield Finding("R2-SCHEMA", Verdict.FAIL, problem)
    elif entry.predicate_type == KINDS["runs"][0][0]:
        text = "is of version 1, which does not say what referee and packages it was made with"
        yield Finding("R2-SCHEMA", Verdict.WARN, text)
    else:
        yield Finding("R2-SCHEMA", Verdict.PASS, "follows its schema")
    try:
        wanted = f"{entry.signer}.json" if entry.folder == "heads" else file_name(entry.predicate, entry.digest)
        if entry.path.name != wanted:
            yield Finding("R3-CHAIN", Verdict.FAIL, f"is called {entry.path.name}; its content is called {wanted}")
    except ValueError as error:
        yield Finding("R2-SCHEMA", Verdict.FAIL, str(error))


def check_signature(entry: Entry, keys: dict[str, PublicKey]) -> Finding:
    """Is its signature that of a listed key, which may sign this at its date [R1-SIGNATURE]?"""
    name, key = entry.signer[:16], keys.get(entry.signer)
    try:
        if key is None:
            problem = f"signed by the unknown key {name}, which is not in the trust list"
        elif not dsse.is_signed_by(entry.envelope, Ed25519PublicKey.from_public_bytes(key.public)):
            problem = f"the signature under key {name} does not fit the content"
        else:
            problem = signing_problem(key, date_of(entry.predicate), ROLES.get(entry.folder))
    except ValueError as error:  # a listed key or date that can't be read
        problem = f"key {name}: {error}"
    return Finding("R1-SIGNATURE", Verdict.FAIL if problem else Verdict.PASS, problem or f"signed by {name}")
