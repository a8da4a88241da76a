"""The queueing simulation: conservation, priorities, a case with a known answer."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.fleet.simulate import Plan, arrivals, main, simulate

SMALL = Plan(submissions=500, spread=0.0, failed=0.0, screened_out=0.0, new_best=0.0, rerun=0.0)


def test_the_same_seed_gives_the_same_week():
    assert simulate(SMALL, 4, 7) == simulate(SMALL, 4, 7)
    assert simulate(SMALL, 4, 7) != simulate(SMALL, 4, 8)


def test_work_is_conserved():
    week = simulate(SMALL, 4, 1)
    assert week.runs == 500
    assert week.gpu_hours == pytest.approx(500 * SMALL.run_min / 60 * 8)


def test_one_node_waits_as_lindleys_recursion_says():
    plan = Plan(submissions=200, spread=0.0, failed=0.0, screened_out=0.0, new_best=0.0, rerun=0.0, run_min=40.0)
    at = arrivals(plan, np.random.default_rng(3))
    wait, waits = 0.0, [0.0]
    for gap in np.diff(at):
        wait = max(0.0, wait + 40.0 - gap)
        waits.append(wait)
    week = simulate(plan, 1, 3)
    assert week.median_wait_min["other"] == pytest.approx(np.percentile(waits, 50), abs=0.01)
    assert week.p95_wait_min["other"] == pytest.approx(np.percentile(waits, 95), abs=0.01)


def test_claims_of_a_new_best_wait_less_than_the_rest():
    week = simulate(Plan(submissions=2000), 6, 1)
    assert week.p95_wait_min["new best"] < week.p95_wait_min["other"]


def test_the_script_prints_lines_and_draws(tmp_path: Path, capsys):
    main(["--nodes", "56", "--figure", str(tmp_path / "q.svg")])
    assert json.loads(capsys.readouterr().out)["nodes"] == 56
    assert (tmp_path / "q.svg").read_text().startswith("<?xml")
