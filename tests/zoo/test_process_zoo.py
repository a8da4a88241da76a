"""Each cheat of ``processes/`` meets the real phases in real cells and is stopped by its rule; its twin passes."""

from pathlib import Path

import pytest
from process_lab import Case, meet

CASES = [case for path in sorted((Path(__file__).parent / "processes").glob("*.py")) for case in Case.read(path)]
TWINS = {case.path: case for case in CASES}.values()
ALWAYS = {
    "val_by_path",
    "shards_in_setup",
    "survives_as_a_daemon",
    "overruns_train_and_saves_in_the_grace",
    "container_that_leaves_its_folder",
    "message_huge",
}
QUICK = {{case.name: case.path for case in CASES}[name] for name in ALWAYS}


def cases():
    for case in CASES:
        marks = [] if case.name in ALWAYS else [pytest.mark.slow]
        yield pytest.param(case, id=case.name, marks=[*marks, pytest.mark.rule(case.rule)])


@pytest.mark.parametrize("case", list(cases()))
def test_cheat_is_stopped_by_its_rule(case, tmp_path):
    met = meet(case, case.cheat, tmp_path)
    assert not met.got_in, met
    if case.by_refusal:
        assert met.refused, met
        assert not met.fired, met
    else:
        assert case.rule in met.fired, met


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.path.stem, marks=() if c.path in QUICK else pytest.mark.slow) for c in TWINS]
)
def test_honest_twin_passes(case, tmp_path):
    met = meet(case, "honest", tmp_path)
    assert not met.fired, met
