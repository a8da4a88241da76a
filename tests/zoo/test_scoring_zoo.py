"""Each cheat of ``scoring/`` is caught by the rule it breaks, and its honest twin passes every audit.

A file holds ``cheat``, or several that share a twin: ``cheat_one``, ``cheat_another``. A case whose rule holds by
construction says ``GAINS_NOTHING``: the cheat's score is no better than its twin's.
"""

import runpy
from pathlib import Path

import pytest
from lab import Outcome, cheats_in, fresh_build, markov_stream, referee

VOCAB = 32
FILES = sorted((Path(__file__).parent / "scoring").glob("*.py"))
CASES = {name: (path, cheat) for path in FILES for name, cheat in cheats_in(path).items()}


def meet_scoring(path: Path, animal: str) -> Outcome:
    names = runpy.run_path(str(path))
    return referee(
        fresh_build(path, animal),
        markov_stream(VOCAB, targets=names.get("TARGETS", 4000)),
        names.get("VOCAB", VOCAB),
        positions=32,
        escape_nats=names.get("ESCAPE_NATS", 0.1),
        tolerance_nats=names.get("TOLERANCE_NATS", 1e-4),
        floor_bpb=0.3,
        message_s=names.get("CHEAT_MESSAGE_S", 800.0) if animal != "honest" else 800.0,
    )


def caught(path: Path, cheat: str) -> tuple[str, str, bool]:
    """(rule expected, rule that fired in words, whether that is right) of a cheat."""
    names = runpy.run_path(str(path))
    rule, outcome = names["RULE"], meet_scoring(path, cheat)
    if names.get("GAINS_NOTHING"):
        useless = outcome.bpb >= meet_scoring(path, "honest").bpb - 1e-6
        return rule, f"{rule}: gains nothing" if useless else "nothing", useless
    return rule, ", ".join(sorted(outcome.fired)) or "nothing", rule in outcome.fired


@pytest.mark.parametrize("name", CASES)
def test_cheat_is_caught_by_its_rule(name):
    rule, fired, right = caught(*CASES[name])
    assert right, f"wanted {rule}, fired: {fired}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_honest_twin_passes(path):
    outcome = meet_scoring(path, "honest")
    assert not outcome.fired, f"{outcome.fired} {outcome.reason} {[f.message for f in outcome.findings]}"
    assert outcome.targets == runpy.run_path(str(path)).get("TARGETS", 4000)
