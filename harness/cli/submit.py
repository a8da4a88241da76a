"""``harness submit``, the main job; ``try``, the same without a trace; ``script``, for a script that scores itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.core import ParameterSource

from harness.cli import FILE, JSON, PATH, epilog, name_values, with_options
from harness.cli.fleet import FLEET, keep_code, run_fleet
from harness.cli.result import fitted_text
from harness.config.tracks import load_track
from harness.config.variables import PREFIX, VARIABLES, cache_dir, check_environment, records_dir
from harness.errors import ExitCode, UsageError
from harness.fleet.queue import Job, Queue, Result
from harness.program import from_here, program
from harness.progress import make_reporter
from harness.record.predicate import RunRecord
from harness.rules import SEVERITY, worst
from harness.stats.seeds import aggregate, describe_pools, pools

if TYPE_CHECKING:
    from harness.run.manifest import SubmissionManifest
    from harness.run.runs import RunOutcome  # torch takes seconds, and an extra may be missing

DEFAULT_SEED, DEFAULT_SUBMISSION = 1337, "submission"
_FOLDERS = "\n".join(f"{name:<20} {meaning}" for name, meaning in VARIABLES.items())


def seed_of(text: str) -> int:
    """A seed in plain digits: Python would take 1_0 for 10. Raises ``click.BadParameter``."""
    if not re.fullmatch(r"\s*[0-9]{1,10}\s*", text) or int(text) >= 2**31:
        raise click.BadParameter(f"{text!r} is not a whole number from 0 to {2**31 - 1}.")
    return int(text)


RUN = (  # what a run is of, whoever makes it
    click.option("--seed", envvar="SEED", type=seed_of, metavar="N", help="Seed (default 1337). [env: SEED]"),
    click.option("--track", "track_name", envvar="TRACK", default="smoke", show_default=True, metavar="NAME",
                 help="Track of the run. [env: TRACK]"),
    click.option("--data", "dataset_name", envvar="DATA", metavar="SET",
                 help="Data set in place of the track's. [env: DATA]"),
    click.option("--verbose", "-v", is_flag=True, help="Also show clocks, sizes and the rules that hold."),
)  # fmt: skip
SUBMISSION = click.option("--submission", "submission_dir", type=PATH, envvar="SUBMISSION", default=DEFAULT_SUBMISSION,
                          show_default=True, help="Folder of the submission. [env: SUBMISSION]")  # fmt: skip


@click.command(epilog=epilog("submit", variables=_FOLDERS))
@with_options(*RUN, SUBMISSION)
@click.option("--seeds", envvar="SEEDS", metavar='"N N …"', help="Several seeds, one run each. [env: SEEDS]")
@click.option("--resume", envvar="RESUME", is_flag=False, flag_value="newest", metavar="[RUN]",
              help="Resume a run after its training (default: the newest that the same command started). "
                   "[env: RESUME]")  # fmt: skip
@click.option("--again", envvar="AGAIN", is_flag=True, help="Also run seeds that already have a record. [env: AGAIN]")
@click.option("--json", "as_json", is_flag=True, help="Print records, then statistics, as JSON; no progress.")
@with_options(*FLEET)
def command(
    seed: int | None,
    seeds: str | None,
    track_name: str,
    dataset_name: str | None,
    submission_dir: Path,
    verbose: bool,
    resume: str | None,
    again: bool,
    as_json: bool,
    on: str | None,
    **fleet: Any,
) -> int:
    """Train, package, evaluate, audit and sign one run, under the referee's clocks."""
    numbers = _seeds(seed, seeds)
    load_track(track_name)
    if resume is None:
        _code(submission_dir)

    from harness.run.refereed import Order
    from harness.run.runs import NEWEST, resume_run, submit_seeds

    if on is not None:
        if resume is not None or again:
            text = "--on goes with neither --resume nor --again."
            raise UsageError(text, remedy="A fleet runs the seeds that have no record yet.")
        jobs = partial(_jobs, seeds=numbers, track=track_name, data=dataset_name, submission=submission_dir)
        return run_fleet(jobs, on=on, as_json=as_json, together=_fleet_together, **fleet)
    if resume is not None:
        if len(numbers) > 1:
            raise UsageError("--resume goes on with one run.", remedy="Several seeds go on without it.")
        said, default = click.get_current_context().get_parameter_source, ParameterSource.DEFAULT
        newest = resume in NEWEST  # of what the same command would start; a run's name says it all, unless more is said
        outcome = resume_run(
            resume,
            records_dir=records_dir(),
            progress=make_reporter(silent=as_json),
            seed=numbers[0] if newest or seeds else seed,
            track=track_name if newest or said("track_name") is not default else None,
            dataset_name=dataset_name or (load_track(track_name).dataset if newest else None),
            submission_dir=submission_dir if newest or said("submission_dir") is not default else None,
            environ=dict(os.environ) if newest else None,
        )
        return show(outcome, as_json=as_json, verbose=verbose)
    environ, progress = dict(os.environ), make_reporter(silent=as_json)
    order = Order(submission_dir, track_name, dataset_name, environ, records_dir(), progress)
    outcomes = []
    for outcome, is_new in submit_seeds(order, numbers, again=again or not seeds):
        outcomes.append(outcome)
        if is_new or as_json:  # to a fleet's job a seed that has its record is a result like any other
            show(outcome, as_json=as_json, verbose=verbose)
    if len(outcomes) > 1:
        sentences, statistics = _together([outcome.record for outcome in outcomes])
        click.echo(json.dumps(statistics) if as_json else "\n" + sentences)
    return ExitCode.RULE_BROKEN if any(outcome.broken for outcome in outcomes) else ExitCode.GOOD


@click.command("try", epilog=epilog("try"))
@with_options(*RUN, SUBMISSION)
@click.option("--quick", envvar="QUICK", is_flag=True,
              help="Under a minute: 10 s of training, the first 32,768 targets, two audited chunks. "
                   "[env: QUICK]")  # fmt: skip
@JSON
def try_command(seed: int | None, submission_dir: Path, verbose: bool, quick: bool, as_json: bool, **run: Any) -> int:
    """A run that leaves no trace: the same cells, clocks and audits, but no key, no announcement and no record."""
    load_track(run["track_name"])
    _code(submission_dir)

    from harness.run.refereed import Order
    from harness.run.runs import submit_run

    run |= {"environ": dict(os.environ), "records_dir": records_dir(), "progress": make_reporter(silent=as_json)}
    outcome = submit_run(Order(submission_dir, **run), _seeds(seed, None)[0], sign=False, quick=quick)
    source, data = str(submission_dir), run["dataset_name"]
    options = f" --submission {shlex.quote(source)}" if source != DEFAULT_SUBMISSION else ""
    options += f" --data {shlex.quote(data)}" if data else ""
    return show(outcome, as_json=as_json, verbose=verbose, options=options)


@click.command("script", epilog=epilog("script"))
@click.argument("script", type=FILE)
@with_options(*RUN)
@click.option("--artifact", default="*.ptz", show_default=True, metavar="GLOB", help="The packed model that it writes.")
@click.option("--env", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable for the script; repeatable.")
@JSON
def script_command(
    script: Path, seed: int | None, artifact: str, pairs: tuple[str, ...], verbose: bool, as_json: bool, **run: Any
) -> int:
    """Run a script that trains, packs and scores itself. Its score is recorded as self-reported."""
    load_track(run["track_name"])

    from harness.run.refereed import Order
    from harness.run.selfreported import submit_script

    run |= {"environ": name_values("--env", pairs, "ITERATIONS=200"), "progress": make_reporter(silent=as_json)}
    outcome = submit_script(Order(script, **run, records_dir=records_dir()), _seeds(seed, None)[0], pattern=artifact)
    return show(outcome, as_json=as_json, verbose=verbose)


def _seeds(seed: int | None, seeds: str | None) -> list[int]:
    if seed is not None and seeds:
        raise UsageError(f"both SEED ({seed}) and SEEDS ({seeds}) are set.", remedy="Set one of them.")
    if not seeds:
        return [DEFAULT_SEED if seed is None else seed]
    numbers = []
    with contextlib.suppress(click.BadParameter):
        numbers = [seed_of(text) for text in seeds.split()]
    if not numbers or len(set(numbers)) != len(numbers):
        words = f"SEEDS is {seeds!r}; wanted different whole numbers, separated by spaces."
        raise UsageError(words, remedy='Example: `harness submit --seeds "1337 42 2025"`.')
    return numbers


def show(outcome: RunOutcome, *, as_json: bool, verbose: bool, options: str = "") -> ExitCode:
    """Print a run's record, or its summary with the result in the last lines. Returns the exit code that it asks for.

    verbose: clocks, sizes, scores for scale and the rules that hold, too
    options: what a signed run of the same needs beside seed and track
    """
    record = outcome.record
    if as_json:
        click.echo(msgspec.json.encode(record).decode())
    else:
        counts = Counter(finding.verdict for finding in record.findings)
        text = fitted_text(
            "summary.txt.jinja",
            record=record,
            worst=worst(record.findings).value,
            counts=[(verdict.value, counts[verdict]) for verdict in SEVERITY if counts[verdict]],
            path=from_here(outcome.path) if outcome.path else None,
            artifact=from_here(outcome.run_dir / "artifact"),
            verbose=verbose,
            options=options,
            program=program(),
        )
        click.echo("\n" + text)
    return ExitCode.RULE_BROKEN if outcome.broken else ExitCode.GOOD


def _code(submission: Path) -> tuple[dict[str, bytes], SubmissionManifest]:
    """Files and manifest. Wrong names of variables show before torch is imported, which takes seconds or is missing."""
    from harness.run.artifact import read_folder
    from harness.run.manifest import check_variables, read_manifest

    check_environment()
    files = read_folder(submission)
    manifest = read_manifest(files, str(submission))
    check_variables(manifest, os.environ, files)
    return files, manifest


def _jobs(queue: Queue, seeds: Sequence[int], track: str, data: str | None, submission: Path) -> list[Job]:
    """One job a seed. What its command line does not say goes with it as variables, but never a passphrase.

    The jobs run a copy of the code as it is now, whatever becomes of the folder until they start.
    """
    from harness.data import stated_fingerprint
    from harness.run.machine import referee_digest

    files, manifest = _code(submission)
    terms = load_track(track)
    digest, code = keep_code(queue, files)
    inputs = {
        "code": digest,
        "data": stated_fingerprint(data or terms.dataset, cache_dir() / "datasets"),
        "harness": referee_digest(),
        "track": terms.digest,
    }
    handed = {*manifest.env.accept, *VARIABLES} - {f"{PREFIX}KEY_PASSPHRASE"}
    variables = [f"{name}={os.environ[name]}" for name in sorted(handed & set(os.environ))]
    options = ["--track", track, "--submission", str(code), *(["--data", data] if data else [])]
    jobs = []
    for seed in seeds:
        argv = ["env", "-u", "SEED", *variables, sys.executable, "-P", "-m", "harness", "submit", "--json"]
        argv += ["--seeds", str(seed), *options]
        jobs.append(queue.add(argv, needs=terms.hardware, title=f"submit {track} seed {seed}", inputs=inputs))
    return jobs


def _fleet_together(results: list[Result]) -> tuple[str, dict[str, Any]]:
    """Statistics over the records that a fleet's jobs printed."""
    records = []
    for result in results:
        with contextlib.suppress(msgspec.ValidationError):  # a run that ended before its record printed an error
            records.append(msgspec.json.decode(result.output, type=RunRecord))
    if not records:
        return "", {}
    sentences, statistics = _together(records)
    return "\n\n" + sentences, statistics


def _together(records: list[RunRecord]) -> tuple[str, dict[str, Any]]:
    """Statistics over seeds: for people, and as JSON."""
    found = [asdict(aggregate(pool)) for pool in pools(records) if len(pool) > 1]
    sentences = "\n".join([*describe_pools(records), f"`{program()} report` draws them."])
    return sentences, {"seeds": [record.submission.seed for record in records], "statistics": found}
