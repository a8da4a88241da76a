"""Each cheat of ``processes/`` meets the real phases in real cells and is stopped by its rule; its twin passes."""

from pathlib import Path

import pytest
from process_lab import Case, meet

CASES = [Case.read(path) for path in sorted((Path(__file__).parent / "processes").glob("*.py"))]
ALWAYS = {"val_by_path", "shards_in_setup", "daemon", "saves_in_the_grace", "path_traversal", "huge_message"}


def cases():
    for case in CASES:
        marks = [] if case.path.stem in ALWAYS else [pytest.mark.slow]
        yield pytest.param(case, id=case.path.stem, marks=[*marks, pytest.mark.rule(case.rule)])


@pytest.mark.parametrize("case", list(cases()))
def test_cheat_is_stopped_by_its_rule(case, tmp_path):
    met = meet(case, "cheat", tmp_path)
    assert not met.got_in, met
    if case.by_refusal:
        assert met.refused, met
        assert not met.fired, met
    else:
        assert case.rule in met.fired, met


@pytest.mark.parametrize("case", list(cases()))
def test_honest_twin_passes(case, tmp_path):
    met = meet(case, "honest", tmp_path)
    assert not met.fired, met


def test_the_zoo_is_large_enough():
    scoring = list((Path(__file__).parent / "scoring").glob("*.py"))
    assert len(CASES) + len(scoring) >= 30
