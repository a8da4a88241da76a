"""Each cheat of ``scoring/`` is caught by the rule it breaks, and its honest twin passes every audit."""

import runpy
from pathlib import Path

import pytest
from lab import Outcome, fresh_build, markov_stream, referee

VOCAB = 32
CASES = sorted((Path(__file__).parent / "scoring").glob("*.py"))


def meet(case: Path, animal: str) -> Outcome:
    return referee(fresh_build(case, animal), markov_stream(VOCAB), VOCAB, positions=32, floor_bpb=0.3)


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_cheat_is_caught_by_its_rule(case):
    rule = runpy.run_path(str(case))["RULE"]
    outcome = meet(case, "cheat")
    assert rule in outcome.broken, f"fired: {outcome.broken or 'nothing'} {outcome.reason}"


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_honest_twin_passes(case):
    outcome = meet(case, "honest")
    assert not outcome.broken, f"{outcome.broken} {outcome.reason} {[f.message for f in outcome.findings]}"
    assert outcome.targets == 4000
