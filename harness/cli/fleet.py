"""What ``harness rerun --on`` and ``harness submit --on`` share: fill a queue, drive it, print the folded report."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli import PATH, name_values, say
from harness.cli.result import fitted_table
from harness.errors import CouldNotCheck, ExitCode
from harness.fleet.queue import Job, Queue, Result
from harness.progress import make_reporter
from harness.text import printable

FLEET = (
    click.option("--on", metavar="ENGINE", help="Run as a queue of jobs on: local, slurm or ray."),
    click.option("--queue", "queue_dir", type=PATH, default=Path(".golf/fleet"),
                 show_default=True, help="The queue's folder, shared by all hosts. Start again to resume."),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
                 help="Runs at once with --on local."),
    click.option("--attempts", type=click.IntRange(1), default=3, show_default=True,
                 help="Starts of a job before it is given up."),
    click.option("--engine-option", "engine_options", multiple=True, metavar="NAME=VALUE",
                 help="For the engine: slurm partition=gpu, time=60, …; ray address=auto."),
)  # fmt: skip


def run_fleet(
    fill: Callable[[Queue], Sequence[Job]],
    *,
    on: str,
    queue_dir: Path,
    workers: int,
    attempts: int,
    engine_options: Sequence[str],
    as_json: bool,
    together: Callable[[list[Result]], tuple[str, dict[str, Any]]] = lambda _: ("", {}),
) -> ExitCode:
    """Add the jobs, run them on the engine, print one report. Returns the gravest exit code.

    together: what all results say as one: a text for people, fields for JSON
    """
    from harness.fleet.driver import HEADERS, cells, drive, exit_code, fold, machine_spread
    from harness.fleet.engines import make_engine

    queue = Queue(queue_dir.absolute())
    jobs = fill(queue)
    options = name_values("--engine-option", engine_options, "partition=gpu")
    engine = make_engine(on, queue, slots=workers, options=options)
    reporter = make_reporter(silent=as_json)
    reporter.note(f"What each run prints is in {queue.folder / 'logs'}.")
    try:
        with reporter.stage(f"{len(jobs)} runs on {on}", len(jobs), "runs") as stage:

            def changed(done: int, words: str) -> None:
                stage.update(done)
                reporter.note(words)

            outcomes = drive(queue, jobs, engine, attempts=attempts, changed=changed)
    finally:
        engine.close()
    rows = fold(queue, outcomes)
    text, fields = together([outcome.result for outcome in outcomes if outcome.result is not None])
    notes = [f"{row.title}: {row.note}" for row in rows if row.note]
    machines = machine_spread(rows)
    blocks = fitted_table(HEADERS, map(cells, rows)), *("\n".join(map(printable, said)) for said in (notes, machines))
    shown = "\n" + "\n\n".join(filter(None, blocks)) + text
    say({"jobs": rows, "machines": machines} | fields, shown, as_json=as_json)
    return exit_code(outcomes)


def keep_code(queue: Queue, files: Mapping[str, bytes]) -> tuple[str, Path]:
    """Copy a submission's ``files`` into the queue, under the digest of their bundle. Returns (digest, folder).

    Raises ``CouldNotCheck`` when the folder of that name holds something else.
    """
    from harness.run.artifact import pack_code, read_folder, unpack_code

    bundle = pack_code(dict(files))
    digest = hashlib.sha256(bundle).hexdigest()
    place = queue.folder / "code" / digest[:16]
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=place.parent) as scratch:
        unpack_code(bundle, Path(scratch) / "code")
        with contextlib.suppress(OSError):  # it is there already; whether whole is looked at below
            (Path(scratch) / "code").rename(place)
    if not place.is_dir() or read_folder(place) != files:
        raise CouldNotCheck(f"{place} does not hold the code it is named after.", remedy="Remove that folder.")
    return digest, place
