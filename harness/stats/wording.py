"""Statistics as sentences: pools of seeds, and a candidate against a baseline with margin, tests and power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

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

    Of several pools on one side the one of most seeds counts, the newest of equals. Raises ``UsageError`` where the
    sides share no track.
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
            for of_track in sides:  # of each the pool of most seeds, the newest of several; the others are counted
                first, *others = sorted(
                    of_track[name], key=lambda pool: (len(pool), max(run.started_at for run in pool)), reverse=True
                )
                if others:
                    left = f"left out: {sum(map(len, others))} record(s) on track {name}, older or of fewer seeds, "
                    lines.append(f"{left}of other code, configuration, data or owner")
                largest.append(first)
            lines += describe_comparison(largest[0], largest[1], chosen_margin)
        except UsageError as error:
            if len(shared) == 1:
                raise
            lines.append(f"track {name} is not compared: {error}")
    return lines


def describe(found: SeedStatistics) -> str:
    """Mean, both deviations by name, interval, largest artifact, slowest clocks."""
    bpb = found.bpb
    seeds = f"{'seed' if bpb.n == 1 else 'seeds'} {', '.join(map(str, found.seeds))}"
    spread = "one seed: no deviation, no interval"
    if bpb.sample_std is not None and bpb.low is not None and bpb.high is not None:
        spread = (
            f"sample std {bpb.sample_std:.5f} (population std {bpb.population_std:.5f}), "
            f"{bpb.confidence:.0%} interval [{bpb.low:.5f}, {bpb.high:.5f}]"
        )
    steps = ""
    if found.steps and min(found.steps) != max(found.steps):
        steps = f"; WARNING: the seeds took different numbers of steps, {min(found.steps):,} to {max(found.steps):,}"
        steps += f", {len(found.cut_short)} cut short by the clock" if found.cut_short else ""
    clocks = "".join(
        f"; longest {name} {worst.value:.1f} of {worst.limit:.1f} s (seed {worst.seed})"
        for name, worst in found.worst_clocks.items()
    )
    return (
        f"{printable(found.submission)} on {printable(found.track)}, code {found.code_digest[:12]}, {seeds}: "
        f"bpb mean {bpb.mean:.5f}, {spread}; largest artifact {found.worst_bytes.value:,.0f} of "
        f"{found.worst_bytes.limit:,.0f} bytes (seed {found.worst_bytes.seed}){clocks}{steps}"
    )


def describe_comparison(
    records: Sequence[RunRecord], baseline: Sequence[RunRecord], margin: Margin | None = None
) -> list[str]:
    """The candidate's pool against the baseline's; without a ``margin`` that of the challenge, or 0 on other tracks.

    The deciding test has the verdict; Welch's figures, which public records quote, stand beside it without one.
    Raises ``UsageError`` unless each side is one pool and both are comparable.
    """
    old, new = aggregate(baseline), aggregate(records)
    asked = margin or (CHALLENGE_MARGIN if new.official else Margin(0.0, "bpb"))
    deciding, other = compare(new, old, asked)
    lines = [f"candidate: {describe(new)}", f"baseline:  {describe(old)}"]
    if new.origin["kind"] != old.origin["kind"]:
        lines.append(
            f"note: the candidate's scores are {new.origin['kind']}, the baseline's {old.origin['kind']}: "
            "what is self-reported was not scored by the referee"
        )
    bpb = deciding.difference
    source = "" if margin else f" (the default of this track; set another one with --margin {OTHER_MARGIN})"
    lines.append(
        f"difference: {bpb:+.5f} bpb = {from_bpb(bpb, 'nats/byte', new.text):+.5f} nats/byte = "
        f"{from_bpb(bpb, 'nats/token', new.text):+.5f} nats/token; "
        f"margin {asked.value:g} {asked.unit} = {deciding.margin:.5f} bpb{source}"
    )
    why = "the same seeds on both sides" if deciding is not other else "no pairs of seeds, or no spread between them"
    verdict = "beats the baseline" if deciding.beats() else "does not show that it beats the baseline"
    lines.append(f"deciding test: {deciding} ({why}): {verdict} by more than the margin (p < {ALPHA})")
    if deciding is not other:
        lines.append(f"for information: {other}")
    needed = deciding.needed
    power = f"{needed} seeds a side would show the observed improvement by the {deciding.test} test"
    power += f" at p < {ALPHA} with probability {POWER}"
    if deciding.improvement <= 0:
        power = "the observed improvement does not exceed the margin, so no number of seeds would show it"
    elif needed is None:
        power = f"more than {MAX_SEEDS:,} seeds a side would be needed to show the observed improvement"
    return [*lines, f"power: {power}"]


def parse_margin(text: str) -> Margin:
    """A margin such as "0.005 nats/token", "0.005 nats/byte" or "0.002 bpb". Raises ``UsageError`` otherwise."""
    number, _, unit = text.strip().partition(" ")
    try:
        return Margin(float(number), cast(Unit, unit.strip()))  # which refuses another unit
    except ValueError:
        raise UsageError(f"margin is {text!r}.", remedy=f"Give number and unit: {OTHER_MARGIN}.") from None
