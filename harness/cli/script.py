"""``harness script``: an unmodified ``train_gpt.py``-style script behind the referee's sandbox, clock and cap."""

from __future__ import annotations

from typing import Any

import click

from harness.cli import FILE, name_values, with_options
from harness.cli.submit import DEFAULT_SEED, RUN, show
from harness.config.tracks import load_track
from harness.config.variables import records_dir
from harness.progress import make_reporter


@click.command(epilog="Exit codes: 0 good, 1 a rule is broken, 2 wrong usage, 3 could not check.")
@click.argument("script", type=FILE)
@with_options(*RUN)
@click.option("--artifact", default="*.ptz", show_default=True, metavar="GLOB", help="The packed model that it writes.")
@click.option("--env", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable for the script; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; no progress.")
def command(seed: int | None, pairs: tuple[str, ...], verbose: bool, as_json: bool, **run: Any) -> None:
    """Run a script that trains, packs and scores itself. Its score is recorded as self-reported.

    The script gets DATA_PATH, TOKENIZER_PATH, VOCAB_SIZE, SEED, MAX_WALLCLOCK_SECONDS and the variables of torchrun,
    works in an empty folder, and has no network. Its output is shown as it comes. The referee measures time and bytes;
    it cannot vouch for the score.

    \b
    harness script train_gpt.py --env ITERATIONS=200
    """
    load_track(run["track_name"])

    from harness.run.selfreported import submit_script

    run |= {"seed": DEFAULT_SEED if seed is None else seed, "variables": name_values("--env", pairs, "ITERATIONS=200")}
    outcome = submit_script(**run, records_dir=records_dir(), progress=make_reporter(silent=as_json))
    show(outcome, as_json=as_json, verbose=verbose)
