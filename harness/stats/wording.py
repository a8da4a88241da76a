"""Statistics as sentences: pools of seeds, and a candidate against a baseline with margin, tests and power."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.errors import UsageError
from harness.record.predicate import RunRecord
from harness.rules import Verdict
from harness.stats.compare import ALPHA, MAX_SEEDS, POWER
from harness.stats.seeds import SeedStatistics, aggregate, compare, pools
from harness.text import printable
from harness.units import Margin, Unit, from_bpb

if TYPE_CHECKING:
    from harness.record.verification import VerifyReport

CHALLENGE_MARGIN = Margin(0.005, "nats/token")
"""The public rule asks for 0.005 nats; a token's is the reading that submissions use most (rules, A8)."""
OTHER_MARGIN = '"0.005 nats/token", "… nats/byte" or "… bpb"'


def describe_pools(records: Sequence[RunRecord]) -> list[str]:
    """One paragraph for each pool of two or more seeds; a pool without figures to pool says why."""
    lines = []
    for pool in pools(records):
        if len(pool) > 1:
            try:
                lines.append(describe(aggregate(pool)))
            except UsageError as error:
                seeds = ", ".join(str(record.submission.seed) for record in pool)
                lines.append(f"seeds {seeds} are not summed up: {error}")
    return lines


def counted_pools(report: VerifyReport) -> tuple[list[list[RunRecord]], list[str]]:
    """The records asked for that count, by owner and by what seeds must share; a sentence on each that does not.

    One owner's records are never pooled with another's: a foreign record in the folder must not move a mean.
    """
    owners: dict[str, list[RunRecord]] = {}
    left_out = []
    for entry in report.records:
        if entry.record is not None and entry.verdict is not Verdict.FAIL:
            owners.setdefault(report.owner_of(entry), []).append(entry.record)
        else:
            left_out.append(f"left out: {entry.name!r}, which does not verify")
    return [pool for records in owners.values() for pool in pools(records)], left_out


def describe_against(
    reports: Sequence[VerifyReport],
    baseline: VerifyReport,
    *,
    track: str | None = None,
    margin: str | None = None,
) -> list[str]:
    """What :func:`describe_comparison` says for each track (or ``track`` alone) of which both sides hold records.

    Raises ``UsageError`` where they share none, or a side holds several pools of equally many seeds.
    """
    sides: list[dict[str, list[list[RunRecord]]]] = []
    lines: list[str] = []
    for side in (reports, [baseline]):
        by_track: dict[str, list[list[RunRecord]]] = {}
        for report in side:
            found, left_out = counted_pools(report)
            lines += left_out
            for pool in found:
                by_track.setdefault(pool[0].track.name, []).append(pool)
        sides.append(by_track)
    shared = [name for name in sides[0] if name in sides[1] and track in (None, name)]
    if not shared:
        held = " and ".join(", ".join(side) or "none that counts" for side in sides)
        raise UsageError(
            f"candidate and baseline have no track{f' {track}' if track else ''} in common: {held}.",
            remedy="Compare records of one track; `harness verify` says why a record does not count.",
        )
    chosen_margin = None if margin is None else parse_margin(margin)
    for name in shared:
        largest: list[list[RunRecord]] = []
        try:
            for of_track in sides:  # of each the pool of most seeds; the others are named
                first, *others = sorted(of_track[name], key=len, reverse=True)
                if others and len(others[0]) == len(first):
                    raise UsageError(
                        f"{len(of_track[name])} pools of records on track {name} have {len(first)} seed(s) each.",
                        remedy="Name the files of one of them.",
                    )
                left = "of other code, configuration, data or owner"
                lines += [f"left out: {len(other)} record(s) on track {name} {left}" for other in others]
                largest.append(first)
            lines += describe_comparison(largest[0], largest[1], chosen_margin)
        except UsageError as error:
            if len(shared) == 1:
                raise
            lines.append(f"track {name} is not compared: {error}")
    return lines


@cache
def texts() -> Environment:
    """The sentences, as templates beside this file."""
    files = FileSystemLoader(Path(__file__).parent)
    found = Environment(loader=files, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters["plain"] = printable
    return found


def describe(found: SeedStatistics) -> str:
    """Mean, both deviations by name, interval, largest artifact, slowest clocks."""
    return texts().get_template("pool.txt.jinja").render(found=found).strip()


def describe_comparison(
    records: Sequence[RunRecord], baseline: Sequence[RunRecord], margin: Margin | None = None
) -> list[str]:
    """The candidate's pool against the baseline's; without a ``margin`` that of the challenge, or 0 on other tracks.

    The deciding test has the verdict; Welch's figures, which public records quote, stand beside it without one.
    Raises ``UsageError`` unless each side is one pool and both are comparable.
    """
    old, new = aggregate(baseline), aggregate(records)
    asked = margin or (CHALLENGE_MARGIN if new.official else Margin(0.0, "bpb"))
    test, other = compare(new, old, asked)
    bpb = test.difference
    shown = {
        "differences": (bpb, from_bpb(bpb, "nats/byte", new.text), from_bpb(bpb, "nats/token", new.text)),
        "constants": (ALPHA, POWER, MAX_SEEDS, OTHER_MARGIN),
    }
    text = texts().get_template("comparison.txt.jinja")
    lines = text.render(shown, new=new, old=old, margin=asked, default=margin is None, test=test, other=other)
    return [f"candidate: {describe(new)}", f"baseline:  {describe(old)}", *lines.strip().splitlines()]


def parse_margin(text: str) -> Margin:
    """A margin such as "0.005 nats/token", "0.005 nats/byte" or "0.002 bpb". Raises ``UsageError`` otherwise."""
    number, _, unit = text.strip().partition(" ")
    try:
        return Margin(float(number), cast(Unit, unit.strip()))  # which refuses another unit
    except ValueError:
        raise UsageError(f"margin is {text!r}.", remedy=f"Give number and unit: {OTHER_MARGIN}.") from None
