"""What stands outside a records folder and backs its dates: version control, timestamps, a published list of intents.

A folder by itself can't show that its signer put it back as a whole to an earlier state, nor when he signed. Each of
these three can, and each is asked for by an option of ``harness verify``.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness.errors import CouldNotCheck, UsageError
from harness.files import write_atomic
from harness.git import git
from harness.record.canonical import CLOCK_SLACK, canonical_bytes, parse_utc, read_bounded, strict_json
from harness.record.chain import DAY
from harness.record.predicate import Intent
from harness.record.statement import Entry, date_of
from harness.record.verification import VerifyReport
from harness.rules import Finding, Verdict

_KEPT = re.compile(r"(intents|runs|reviews|keys/list)/[^/]+\.json")
_KEY = re.compile(r"keys/[0-9a-f]{64}\.json")
_REVOKED = b'"status":"revoked"'


def check_history(records_dir: Path) -> list[Finding]:
    """What the folder lacks of its history in git: entries that were removed or rewritten, revocations taken back.

    Removing is WARN, because a folder may be cleaned up; the other two are FAIL. Every parent of a merge counts, and
    the folder as it lies here, committed or not. Raises ``CouldNotCheck`` without git, and for a history that was cut
    short.
    """
    ask = partial(git, records_dir, remedy="Clone it whole, or leave --history out.")
    shallow, place = os.fsdecode(ask("rev-parse", "--is-shallow-repository", "--absolute-git-dir")).split("\n", 1)
    if shallow == "true":
        text = f"git tells no history of {records_dir}: its clone is shallow, and holds the newest commits only."
        raise CouldNotCheck(text, remedy="`git fetch --unshallow`, or leave --history out.")
    inside = Path(place.removesuffix("\n")).resolve()
    if inside in ((here := records_dir.resolve()), *here.parents):  # git takes it for a bare one
        text = f"{inside} holds files of a repository (HEAD, objects, refs) that hide the one around it."
        raise CouldNotCheck(text, remedy="Remove them, if they are not yours; or leave --history out.")
    form = ("--format=%x00%H %cs", "--raw", "--no-abbrev", "--no-renames", "--relative", "--full-history", "-m")
    if not (log := ask("log", *form, "--", ".").decode("utf-8", "replace").split("\0")[1:]):
        text = f"git tells no history of {records_dir}: no commit holds a file of it."
        raise CouldNotCheck(text, remedy="Commit it, clone it whole, or leave --history out.")
    changes: dict[str, list[tuple[str, str]]] = {}  # name -> (id of its content, commit), the newest first
    for part in log:
        head, *lines = [line for line in part.splitlines() if line]
        commit, day = head.split(" ")
        for fields, name in (line.split("\t", 1) for line in lines):
            changes.setdefault(name, []).append((fields.split(" ")[3], f"commit {commit[:12]} of {day}"))
    found = []
    for name, seen in changes.items():
        contents = {content for content, _ in seen if content.strip("0")}
        now, place = b"", f"in {seen[0][1]}, or since"
        kind = "sha1" if len(seen[0][0]) == 40 else "sha256"  # the hash that this repository names contents by
        with suppress(CouldNotCheck):
            now = read_bounded(records_dir / name)
        if _KEPT.fullmatch(name) and not now:
            found.append(Finding("R3-CHAIN", Verdict.WARN, f"was removed {place}", where=name))
        elif _KEPT.fullmatch(name) and contents != {hashlib.new(kind, b"blob %d\0" % len(now) + now).hexdigest()}:
            found.append(Finding("R3-CHAIN", Verdict.FAIL, f"was rewritten {place}", where=name))
        elif _KEY.fullmatch(name) and _REVOKED not in now:
            earlier = (ask("cat-file", "blob", content) for content in contents)
            if any(_REVOKED in content for content in earlier):
                text = f"the revocation of this key was taken back {place}"
                found.append(Finding("R1-SIGNATURE", Verdict.FAIL, text, where=name))
    text = f"nothing was removed, rewritten or taken back in {len(log)} commits"
    return found or [Finding("R3-CHAIN", Verdict.PASS, text, where="history")]


def check_stamps(report: VerifyReport, authority: Path) -> Iterator[Finding]:
    """Judge every ``timestamps/<digest>.tsr`` by ``authority``, the certificates (PEM) of whom the reader believes.

    A timestamp says that an entry existed by then. So one dated later is dated forward, and one stamped more than a day
    after its own date is backed by nothing: WARN.
    """
    if not authority.is_file():
        raise UsageError(f"{authority} is not a file of certificates.", remedy="Give the authority's PEM file.")
    found, folder = 0, report.records_dir / "timestamps"
    for entry in (item.entry for item in report.entries if item.entry):
        if (stamp := folder / f"{entry.digest}.tsr").is_file():
            found += 1
            yield Finding("R1-SIGNATURE", *_judge_stamp(entry, stamp, authority), where=entry.name)
    if not found:
        yield Finding("R1-SIGNATURE", Verdict.WARN, "none of these entries has one to back its date", folder.name)


def _judge_stamp(entry: Entry, stamp: Path, authority: Path) -> tuple[Verdict, str]:
    # The token alone is signed. The answer around it has room for words, such as another time.
    token = _openssl("-reply", "-in", str(stamp), "-token_out").stdout
    shown = _openssl("-reply", "-in", "/dev/stdin", "-token_in", "-text", given=token).stdout.decode("utf-8", "replace")
    if (match := re.search(r"^Time stamp: (.+ GMT)$", shown, re.MULTILINE)) is None:
        return Verdict.FAIL, "its timestamp can't be read, or names no time"
    try:
        at = datetime.strptime(re.sub(r"\.\d+", "", match[1]), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
        late = at - parse_utc(date_of(entry.predicate))
    except ValueError as error:
        return Verdict.ERROR, f"its timestamp can't be compared: {error}"
    # A certificate has to be valid when it stamps, not for ever.
    known = ("-CAfile", str(authority), "-attime", str(int(at.timestamp())))
    done = _openssl("-verify", "-digest", entry.digest, "-in", "/dev/stdin", "-token_in", *known, given=token)
    if b"certificate verify error" in done.stderr or b"no certificate or crl found" in done.stderr:
        return Verdict.ERROR, f"its timestamp is of an authority that {authority.name} does not hold: {_said(done)}"
    if done.returncode:
        return Verdict.FAIL, f"its timestamp does not verify: {_said(done)}"
    text = f"stamped {at:%Y-%m-%dT%H:%M:%SZ}"
    if late < -CLOCK_SLACK:
        return Verdict.FAIL, f"{text}, before the date that it gives itself"
    if late > DAY:
        return Verdict.WARN, f"{text}, {late.days} day(s) after the date it gives itself"
    return Verdict.PASS, text


def _openssl(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """What ``openssl ts`` answers. Raises ``CouldNotCheck`` where it does not."""
    try:
        return subprocess.run(["openssl", "ts", *arguments], input=given, capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CouldNotCheck(f"openssl does not answer: {error}.", remedy="Install OpenSSL.") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    line = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]  # of numbers, parts and file names
    return ": ".join(line.split(":")[3:6:2]) or line[:200] or "no reason given"


def extend_log(reports: Sequence[VerifyReport], log: Path) -> list[Finding]:
    """Append every sound intent that ``log`` lacks, and find those that it has and the folders lack.

    The log is one JSON object a line, each with the SHA-256 of the line before. Whoever publishes it shows all runs
    that were announced: an intent that was taken out of a folder later is still there. Raises ``UsageError`` for a log
    whose lines do not follow from each other.
    """
    lines = read_bounded(log).splitlines() if log.exists() else []
    logged, before = set[str](), ""
    for number, line in enumerate(lines, start=1):
        try:
            entry = strict_json(line)
            follows, digest = entry["before"] == before, str(entry["intent"])
        except (ValueError, KeyError, TypeError):
            follows, digest = False, ""
        if not follows:
            raise UsageError(f"line {number} of {log} does not follow from the one before.", remedy="Restore the log.")
        logged.add(digest)
        before = hashlib.sha256(line).hexdigest()
    found = [
        (item.entry.digest, item.entry.signer, item.entry.predicate)
        for report in reports
        for item in report.entries
        if item.entry and isinstance(item.entry.predicate, Intent) and item.verdict is not Verdict.FAIL
    ]
    for digest, signer, intent in sorted(found, key=lambda item: (item[2].announced_at, item[0])):
        if digest not in logged:
            fields = {"before": before, "intent": digest, "signer": signer, "announced_at": intent.announced_at}
            fields |= {"track": intent.track, "code": intent.code_digest, "config": intent.config_digest}
            lines.append(canonical_bytes(fields | {"seed": intent.seed}))
            before = hashlib.sha256(lines[-1]).hexdigest()
    write_atomic(log.absolute(), b"".join(line + b"\n" for line in lines), replace=True)
    gone = sorted(logged - {digest for digest, _, _ in found})
    text = "the published log has this intent, and the folder has not: it was removed, or does not verify any more"
    return [Finding("R5-INTENT", Verdict.FAIL, text, where=f"intent {digest[:16]}") for digest in gone]
