"""The JSON against itself: means and extremes of its own seed results, and boxes ticked against what was found (A9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from statistics import fmean

from harness.public.figures import FINEST, Figure, agrees, figure
from harness.public.record import Record
from harness.rules import Verdict

AGGREGATE = re.compile(r"(?P<head>\w+)_(?P<kind>mean|avg|max|min)$|(?P<kind2>mean|max|min)_(?P<head2>\w+)$")
BOXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"train\w*_(?:under|within|le)_?600|train_under_10", ("A1-TRAIN-CLOCK",)),
    (r"eval_(?:under|within)", ("A2-EVAL-CLOCK",)),
    (r"artifact_(?:under|within)|under_16_?mb", ("A3-ARTIFACT-BYTES",)),
    (r"no_pre_?quant_ttt", ("A6-PREQUANT-TTT",)),
    (r"score_first", ("C3-SCORE-BEFORE-UPDATE", "A6-PREQUANT-TTT")),
    (r"no_network|no_external", ("A4-NO-NETWORK",)),
    (r"full_val|full_validation", ("C4-COVERAGE",)),
    (r"single_pass|no_rescor|no_two_pass", ("C4-SINGLE-PASS",)),
)
COUNTED = {"two": 2, "three": 3, "five": 5, "3": 3, "5": 5}


def check(record: Record) -> None:
    """Both; runs after the other checks, whose findings the boxes are compared with."""
    if record.metadata is not None:
        _aggregates(record)
        for name in ("val_bpb", "val_loss"):
            _own_mean(record, name)
        _boxes(record)


def _aggregates(record: Record) -> None:
    meta = record.metadata
    assert meta is not None
    of_seeds: dict[str, list[Figure]] = {}
    for result in meta.results.values():
        for key, number in result.numbers.items():
            of_seeds.setdefault(key, []).append(number)
    for key, value in meta.raw.items():
        hit = AGGREGATE.fullmatch(key)
        if hit is None or not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if record.folder.late():
            return
        head, kind = hit["head"] or hit["head2"], hit["kind"] or hit["kind2"]
        numbers = of_seeds.get(head, [])
        if len(numbers) < 2 or len(numbers) != len(meta.results):
            continue
        computed = {"max": max, "min": min}.get(kind, fmean)(numbers)
        decimals = figure(value).decimals
        if not agrees(value, decimals, computed, _printed(numbers)):
            record.out.warn(
                "A9-JSON-MATCH",
                f"{key} is not the {kind} of the seeds' {head}.",
                file=record.json_file,
                line=meta.lines.get(key, 0),
                found=f"{value:,}",
                computed=f"{computed:,.8g}" if decimals else f"{computed:,.1f}",
                remedy="Compute it from the seed results.",
            )


def _printed(numbers: Iterable[Figure]) -> int:
    """Decimals of the most exactly written of the numbers: trailing zeros are dropped, so the others have as many.
    Whole numbers are exact."""
    return max(number.decimals for number in numbers) or FINEST


def _own_mean(record: Record, name: str) -> None:
    """The claim against the JSON's own seed results, when these are of the same seeds."""
    meta, out = record.metadata, record.out
    assert meta is not None
    claimed = meta.number(name)
    numbers = {seed: result.numbers[name] for seed, result in meta.results.items() if name in result.numbers}
    if claimed is None or len(numbers) < 2 or len(numbers) != len(meta.results):
        return
    mean = fmean(numbers.values())
    decimals, printed = claimed.decimals, _printed(numbers.values())
    if agrees(claimed, decimals, mean, printed):
        return
    one = next((seed for seed, value in numbers.items() if agrees(claimed, decimals, value, printed)), None)
    kind = "best" if one is not None and numbers[one] == min(numbers.values()) else "chosen"
    but = "" if one is None else f" but that of the {kind} seed, {one}"
    if one is not None and any(i.rule == "A9-SCORE-MATCH" and i.verdict is Verdict.WARN for i in out.items):
        return
    out.warn(
        "A9-JSON-MATCH",
        f"{name} is not the mean of the seeds' {name}{but}.",
        file=record.json_file,
        line=meta.line(name),
        found=f"{claimed:.10g}",
        computed=f"mean of {len(numbers)} seed results {mean:.{max(decimals, 4)}f}",
        remedy="Claim the mean over all seeds, computed by script.",
    )


def _boxes(record: Record) -> None:
    meta, out = record.metadata, record.out
    assert meta is not None
    boxes = meta.raw.get("compliance")
    if not isinstance(boxes, dict):
        return
    broken = {item.rule for item in out.items if item.verdict is Verdict.FAIL}
    for key, value in list(boxes.items())[:60]:
        if value is not True:
            continue
        rules = next((rules for pattern, rules in BOXES if re.search(pattern, str(key))), ())
        against = [rule for rule in rules if rule in broken]
        seeds = re.fullmatch(r"(two|three|five|\d)_seeds?", str(key))
        few = bool(seeds and record.logs and len(record.logs) < COUNTED.get(seeds[1], 0))
        if against or few:
            out.warn(
                "A9-JSON-MATCH",
                f"the box {str(key)[:60]!r} is ticked, and the folder says otherwise.",
                file=record.json_file,
                line=meta.lines.get(str(key), 0),
                found="true",
                computed=f"{against[0]} FAIL" if against else f"{len(record.logs)} log(s)",
            )
