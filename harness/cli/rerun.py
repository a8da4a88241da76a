"""``harness rerun``: repeat a recorded run from scratch and say whether it gives the same."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.fleet import fleet_options, run_fleet
from harness.errors import CouldNotCheck, ExitCode, RuleBroken, UsageError

if TYPE_CHECKING:
    from harness.fleet.queue import Job, Queue
    from harness.phases.submit import RunOutcome
    from harness.record import StoredRecord
    from harness.record.reproduce import Comparison

EPILOG = """\b
The record gives track, seed, data and configuration; the code at hand must have the record's digest, so check out the
record's commit or give its code.bundle. On the same kind of CPU with the same packages every bit must agree. Elsewhere
the final bpb must agree within three sample deviations of the record's seeds (0.002 bpb where there are fewer than
three), or within --tolerance.

\b
Examples:
  harness rerun records/runs/X.json
  harness rerun records/runs/X.json --code run/artifact/code.bundle
  harness rerun records/runs/X.json --sign       add your counter-signature to records/reviews
  harness rerun records/runs/*.json --on local   a queue of reruns; --on slurm or ray for a cluster

Exit codes: 0 reproduced, 1 not reproduced or the record itself fails, 2 wrong usage, 3 could not check."""


@click.command(epilog=EPILOG)
@click.argument("records", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--code", type=click.Path(path_type=Path), default=Path("submission"), show_default=True,
              help="The submission's folder, or a code.bundle.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(min=0), metavar="BPB", help="Largest difference that still agrees.")
@click.option("--sign", is_flag=True, help="Sign the result and add it to records/reviews.")
@click.option("--note", default="", help="A sentence to put into the signed review.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON; no progress.")
@fleet_options
def command(
    records: tuple[Path, ...],
    code: Path,
    tolerance: float | None,
    sign: bool,
    note: str,
    as_json: bool,
    on: str | None,
    **fleet: Any,
) -> int:
    """Repeat the run of each of RECORDS and compare: the same to the bit, within tolerance, or not."""
    if on is not None or len(records) > 1:
        if sign:
            raise UsageError("--sign works on one record at a time.", remedy="Sign after the fleet has finished.")
        return run_fleet(
            lambda queue: _jobs(queue, records, code, tolerance), on=on or "local", as_json=as_json, **fleet
        )
    return _rerun(records[0], code, tolerance, sign, note, as_json=as_json)


def _rerun(record: Path, code: Path, tolerance: float | None, sign: bool, note: str, *, as_json: bool) -> int:
    from harness.config.environment import keys_dir
    from harness.record import countersign, load_records, open_signing_key
    from harness.record.reproduce import compare_runs, make_review, seed_tolerance

    stored = _trusted(record)
    records_dir = record.absolute().parent.parent
    if tolerance is None:  # before the repetition, like all that may fail
        others = load_records(records_dir, skipped=lambda text: click.echo(f"warning: {text}", err=True))
        tolerance = seed_tolerance(stored.record, [other.record for other in others])
    if sign:
        open_signing_key(keys_dir(), records_dir)
    outcome = _repeat(stored, code, records_dir, as_json=as_json)
    comparison = compare_runs(stored.record, outcome.record, tolerance)
    review = None
    if sign:
        review = countersign(make_review(stored.digest, outcome.record, comparison, note), records_dir, keys_dir())
    _show(stored, outcome, comparison, review, as_json=as_json)
    return ExitCode.GOOD if comparison.reproduced else ExitCode.RULE_BROKEN


def _jobs(queue: Queue, records: tuple[Path, ...], code: Path, tolerance: float | None) -> list[Job]:
    """One job a record that passes level 1, with the GPUs and cores that its track needs."""
    import harness
    from harness.config.tracks import load_track

    with _code_folder(code) as (_, digest, _):
        common = {"code": digest, "harness": harness.__version__}
    jobs = []
    for path in records:
        stored = _trusted(path)
        argv = [
            sys.executable,
            "-P",
            "-m",
            "harness",
            "rerun",
            str(path.absolute()),
            "--code",
            str(code.absolute()),
            "--json",
        ]
        argv += [] if tolerance is None else ["--tolerance", repr(tolerance)]
        track = load_track(stored.record.track.name)
        inputs = common | {"record": stored.digest, "track": track.digest}
        jobs.append(
            queue.add(
                argv,
                folder=Path.cwd(),
                gpus=track.hardware.gpus,
                cores=track.hardware.cpu_cores,
                title=f"rerun {path.stem}",
                inputs=inputs,
            )
        )
    return jobs


def _trusted(path: Path) -> StoredRecord:
    """The record, once its own file has passed level 1: repeating a forged record would prove nothing."""
    from harness.record import load_record, verify_folder
    from harness.rules import Verdict

    if not path.is_file():
        raise UsageError(f"RECORD is {str(path)!r}, which is no file.", remedy="Example: records/runs/….json.")
    report = verify_folder(path.absolute().parent.parent, judge_runs=False)
    found = [entry for entry in report.records if entry.path == path.absolute()]
    if not found:
        raise CouldNotCheck(
            f"{path} does not lie in runs/ of a records folder (with keys/ beside it).", remedy="Put it into one."
        )
    for finding in found[0].findings:
        if finding.verdict is Verdict.FAIL:
            raise RuleBroken(finding.rule, f"{path}: {finding.message}.", remedy="A record that fails is not repeated.")
    return load_record(path)


def _repeat(stored: StoredRecord, code: Path, records_dir: Path, *, as_json: bool) -> RunOutcome:
    from harness.cli.progress import make_reporter
    from harness.phases.manifest import read_manifest
    from harness.phases.submit import submit_run
    from harness.record.reproduce import check_code, environment_for

    record = stored.record
    with _code_folder(code) as (folder, digest, files):
        check_code(record, digest, {name: _sha256(data) for name, data in files.items()})
        accepted = read_manifest(files, str(code)).env.accept
        return submit_run(
            submission_dir=folder,
            track_name=record.track.name,
            dataset_name=record.data.name,
            seed=record.submission.seed,
            environ=environment_for(record, accepted, os.environ),
            records_dir=records_dir,
            progress=make_reporter(silent=as_json),
            sign=False,
        )


@contextmanager
def _code_folder(code: Path) -> Iterator[tuple[Path, str, dict[str, bytes]]]:
    """The submission as a folder, the digest its bundle has, and its counted files."""
    from harness.artifact.bundle import pack_code, read_folder, unpack_code

    if code.is_dir():
        files = read_folder(code)
        yield code, _sha256(pack_code(files)), files
    elif code.is_file():
        with tempfile.TemporaryDirectory(prefix="golf-rerun-") as scratch:
            folder = Path(scratch) / "submission"
            bundle = code.read_bytes()
            unpack_code(bundle, folder)
            yield folder, _sha256(bundle), read_folder(folder)
    else:
        raise UsageError(
            f"--code is {str(code)!r}, which is neither a folder nor a code.bundle.",
            remedy="Give the submission's folder, or artifact/code.bundle of the run.",
        )


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _show(
    stored: StoredRecord, outcome: RunOutcome, comparison: Comparison, review: Path | None, *, as_json: bool
) -> None:
    import msgspec

    if as_json:
        document = {
            "record": str(stored.path),
            "record_digest": stored.digest,
            "comparison": msgspec.to_builtins(comparison),
            "review": str(review) if review else None,
            "run_dir": str(outcome.run_dir),
        }
        click.echo(json.dumps(document, indent=2))
        return
    verdict = {
        "same": "REPRODUCED: the same to the bit.",
        "within-tolerance": "REPRODUCED: within the tolerance.",
        "different": "NOT REPRODUCED.",
    }[comparison.outcome]
    click.echo("\n".join([f"rerun of {stored.path.name}", *comparison.lines, verdict]))
    if review:
        click.echo(f"counter-signed: {review}")
