"""What the published readings of the two clocks would count [A1-TRAIN-CLOCK, A2-EVAL-CLOCK].

The public rules do not say which spans count. A track names the reading that decides; this table holds the readings
that were argued in public, so that every run shows its seconds under each of them.

Covered: sums of measured spans. Not covered: readings that need time inside a span (in-loop validation, a recompile).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.record.predicate import SpanEntry

A1_TRAIN_CLOCK = "A1-TRAIN-CLOCK"
A2_EVAL_CLOCK = "A2-EVAL-CLOCK"


@dataclass(frozen=True)
class ClockReading:
    """One reading of a rule: the spans that count, and who reads it so (sections A1 and A2 of the public rules)."""

    rule: str
    name: str
    spans: tuple[str, ...]
    source: str


_EVALUATIONS = ("eval float", "eval packed", "eval")
_WARM_UPS = ("warmup compile", "warmup float", "warmup packed", "warmup")
READINGS = (
    ClockReading(A1_TRAIN_CLOCK, "training loop", ("train",), "root train_gpt.py"),
    ClockReading(A1_TRAIN_CLOCK, "loop and packaging", ("train", "package"), "#1001, #1004, #1047"),
    ClockReading(A1_TRAIN_CLOCK, "set-up, loop and packaging", ("setup", "train", "package"), "the strictest"),
    ClockReading(A2_EVAL_CLOCK, "last scoring pass", ("eval",), "practice of the records"),
    ClockReading(A2_EVAL_CLOCK, "packaging and last pass", ("package", "eval"), "#1855 and its kind"),
    ClockReading(A2_EVAL_CLOCK, "all passes", ("package", *_EVALUATIONS), "#1972, #1858"),
    ClockReading(A2_EVAL_CLOCK, "all passes and warm-ups", ("package", *_WARM_UPS, *_EVALUATIONS), "the strictest"),
)


def read_clock(rule: str, spans: Sequence[SpanEntry]) -> list[tuple[ClockReading, float]]:
    """Seconds under each published reading of ``rule``, from the loosest to the strictest."""
    return [
        (reading, sum(span.seconds for span in spans if span.name in reading.spans))
        for reading in READINGS
        if reading.rule == rule
    ]
