"""Each cheat of ``scoring/`` is caught by the rule it breaks, and its honest twin passes every audit.

A case whose rule holds by construction says ``GAINS_NOTHING``: the cheat's score is no better than its twin's.
"""

import runpy
from pathlib import Path

import pytest
from lab import Outcome, fresh_build, markov_stream, referee

VOCAB = 32
CASES = sorted((Path(__file__).parent / "scoring").glob("*.py"))


def meet_scoring(case: Path, animal: str) -> Outcome:
    names = runpy.run_path(str(case))
    return referee(
        fresh_build(case, animal),
        markov_stream(VOCAB, targets=names.get("TARGETS", 4000)),
        names.get("VOCAB", VOCAB),
        positions=32,
        escape_nats=names.get("ESCAPE_NATS", 0.1),
        tolerance_nats=names.get("TOLERANCE_NATS", 1e-4),
        floor_bpb=0.3,
        message_s=names.get("CHEAT_MESSAGE_S", 20.0) if animal == "cheat" else 20.0,
    )


def caught(case: Path) -> tuple[str, str, bool]:
    """(rule expected, rule that fired in words, whether that is right) of a cheat."""
    names = runpy.run_path(str(case))
    rule, outcome = names["RULE"], meet_scoring(case, "cheat")
    if names.get("GAINS_NOTHING"):
        useless = outcome.bpb >= meet_scoring(case, "honest").bpb - 1e-6
        return rule, f"{rule}: gains nothing" if useless else "nothing", useless
    return rule, ", ".join(sorted(outcome.fired)) or "nothing", rule in outcome.fired


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_cheat_is_caught_by_its_rule(case):
    rule, fired, right = caught(case)
    assert right, f"wanted {rule}, fired: {fired}"


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_honest_twin_passes(case):
    outcome = meet_scoring(case, "honest")
    assert not outcome.fired, f"{outcome.fired} {outcome.reason} {[f.message for f in outcome.findings]}"
    assert outcome.targets == runpy.run_path(str(case)).get("TARGETS", 4000)
