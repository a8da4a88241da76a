"""``harness rerun``: repeat a recorded run from scratch and say whether it gives the same."""

import hashlib
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness.cli import FILE, JSON, PATH, epilog, say, with_options
from harness.cli.fleet import FLEET, run_fleet
from harness.config.tracks import load_track
from harness.config.variables import keys_dir
from harness.errors import RuleBroken, UsageError
from harness.fleet.queue import Job, Queue
from harness.progress import make_reporter
from harness.record import reproduce
from harness.record.signing import open_signing_key
from harness.record.statement import Entry
from harness.record.store import kept_file, load_record, sign_entry
from harness.record.verification import verify_paths
from harness.rules import Finding, Verdict, exit_code_of, worst


@click.command(epilog=epilog("rerun"))
@click.argument("records", type=FILE, nargs=-1, required=True)
@click.option("--code", type=PATH,
              help="The submission's folder, or a bundle. [default: the kept one, else submission]")  # fmt: skip
@click.option("--sign", is_flag=True, help="Sign the result and add it to records/reviews.")
@click.option("--note", default="", help="A sentence to put into the signed review.")
@JSON
@with_options(*FLEET)
def command(
    records: tuple[Path, ...], code: Path | None, sign: bool, note: str, as_json: bool, on: str | None, **fleet: Any
) -> int:
    """Repeat the run of each of RECORDS and compare: the same to the bit, within tolerance, or not."""
    if on is not None or len(records) > 1:
        if sign:
            raise UsageError("--sign works on one record at a time.", remedy="Sign after the fleet has finished.")
        return run_fleet(partial(_jobs, records=records, code=code), on=on or "local", as_json=as_json, **fleet)
    from harness.run.artifact import unpack_code
    from harness.run.manifest import read_manifest
    from harness.run.refereed import Order
    from harness.run.runs import submit_run

    stored = _trusted(records[0])
    records_dir, run = records[0].absolute().parent.parent, stored.record
    allowed = reproduce.tolerance_of(run)  # before the repetition, like all that may fail
    if sign:
        open_signing_key(keys_dir(), records_dir, "reviewer")
    outcome = None
    _, bundle = _code_of(stored, code)
    with tempfile.TemporaryDirectory(prefix="golf-rerun-") as scratch:
        folder, digest = Path(scratch) / "submission", hashlib.sha256(bundle).hexdigest()
        files = unpack_code(bundle, folder)
        reproduce.check_code(run, digest, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
        environ = reproduce.environment_for(run, read_manifest(files, "the code").env.accept, os.environ)
        try:
            order = Order(folder, run.track.name, run.data.name, environ, records_dir, make_reporter(silent=as_json))
            outcome = submit_run(order, run.submission.seed, sign=False)
            review, lines = reproduce.compare_runs(stored.digest, run, outcome.record, allowed, note)
        except RuleBroken as error:
            review, lines = reproduce.ended_without_score(stored.digest, error, note)
    signed = sign_entry(review, records_dir, keys_dir()).path if sign else None
    verdict = reproduce.verdict_of(review, run)
    document = {
        "record": str(stored.path),
        "record_digest": stored.digest,
        "comparison": {
            "outcome": review.outcome,
            "tolerance_bpb": review.tolerance_bpb,
            "difference_bpb": review.bpb - run.final.bpb if outcome and run.final else 0.0,
            "against": review.findings,
            "lines": lines,
        },
        "review": str(signed) if signed else None,
        "run_dir": str(outcome.run_dir) if outcome else None,
    }
    why = "it breaks a rule" if worst(review.findings) is Verdict.FAIL else "another result"
    words = {
        "same": "REPRODUCED: the same to the bit.",
        "within-tolerance": "REPRODUCED: within the tolerance.",
        "different": f"NOT REPRODUCED: {'it could not be checked' if verdict is Verdict.ERROR else why}.",
    }[review.outcome]
    shown = [f"rerun of {stored.path.name}", *lines, words, *([f"counter-signed: {signed}"] if signed else [])]
    say(document, "\n".join(shown), as_json=as_json)
    return exit_code_of([Finding(reproduce.RULE, verdict, words)])


def _code_of(stored: Entry, given: Path | None) -> tuple[Path, bytes]:
    """Where the code is: given, kept with the record, or at hand; and its bundle."""
    from harness.files import read_regular
    from harness.run.artifact import MAX_CODE_BYTES, pack_code, read_folder

    kept = kept_file(stored.path.absolute().parent.parent, stored.record.submission.code_digest)
    code = given or (kept if kept.is_file() else Path("submission"))
    if not (code.is_dir() or code.is_file()):
        text = f"--code is {str(code)!r}, which is neither a folder nor a code.bundle."
        raise UsageError(text, remedy="Give the submission's folder, or artifact/code.bundle of the run.")
    return code, pack_code(read_folder(code)) if code.is_dir() else read_regular(code, MAX_CODE_BYTES, links=True)


def _jobs(queue: Queue, records: tuple[Path, ...], code: Path | None) -> list[Job]:
    """One job a record that passes level 1, with the GPUs and cores that its track needs."""
    from harness.run.machine import referee_digest

    jobs = []
    for path in records:
        stored = _trusted(path)
        chosen, bundle = _code_of(stored, code)
        argv = [sys.executable, "-P", "-m", "harness", "rerun", str(path.absolute())]
        argv += ["--code", str(chosen.absolute()), "--json"]
        track, digest = load_track(stored.record.track.name), hashlib.sha256(bundle).hexdigest()
        inputs = {"code": digest, "harness": referee_digest(), "record": stored.digest, "track": track.digest}
        jobs.append(queue.add(argv, needs=track.hardware, title=f"rerun {path.stem}", inputs=inputs))
    return jobs


def _trusted(path: Path) -> Entry:
    """The record, once its own file has passed level 1: repeating a forged record would prove nothing."""
    found, *_ = verify_paths([path], judge_runs=False)[0].asked  # what stands beside it speaks of its chain
    for finding in found.findings:
        if finding.verdict is Verdict.FAIL:
            raise RuleBroken(finding.rule, f"{path}: {finding.message}.", remedy="A record that fails is not repeated.")
    return load_record(path)
