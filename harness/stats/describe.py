"""Statistics as sentences: pools of seeds, and a candidate against a baseline with margin, tests and power."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UsageError
from harness.record.predicate import RunRecord
from harness.stats.compare import TestResult
from harness.stats.seeds import Comparison, SeedStatistics, aggregate, compare, pools
from harness.stats.units import UNITS, Margin, from_bpb

ALPHA = 0.01
"""The public rule: an improvement is shown at p < 0.01."""


def describe_pools(records: Sequence[RunRecord]) -> list[str]:
    """One paragraph for each pool of two or more seeds."""
    return [describe(aggregate(pool)) for pool in pools(records) if len(pool) > 1]


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
    clocks = "".join(
        f"; longest {name} {worst.value:.1f} of {worst.limit:.1f} s (seed {worst.seed})"
        for name, worst in found.worst_clocks.items()
    )
    return (
        f"{found.submission} on {found.track}, code {found.code_digest[:12]}, {seeds}: "
        f"bpb mean {bpb.mean:.5f}, {spread}; largest artifact {found.worst_bytes.value:,.0f} of "
        f"{found.worst_bytes.limit:,.0f} bytes (seed {found.worst_bytes.seed}){clocks}"
    )


def describe_comparison(records: Sequence[RunRecord], baseline: Sequence[RunRecord], margin: Margin) -> list[str]:
    """The candidate's pool against the baseline's. Raises ``UsageError`` unless each side is one pool."""
    old = aggregate(baseline)
    new = aggregate(records)
    found = compare(new, old, margin)
    lines = [f"candidate: {describe(new)}", f"baseline:  {describe(old)}", _difference(found, new)]
    lines += [_test(result) for result in (found.welch, found.paired) if result]
    if found.needed is None:
        lines.append("power: the observed improvement does not exceed the margin, so no number of seeds would show it")
    else:
        lines.append(f"power: {found.needed} seeds a side would show it at p < {ALPHA} with probability 0.8")
    return lines


def _difference(found: Comparison, new: SeedStatistics) -> str:
    bpb = found.welch.difference
    return (
        f"difference: {bpb:+.5f} bpb = {from_bpb(bpb, 'nats/byte', new.text):+.5f} nats/byte = "
        f"{from_bpb(bpb, 'nats/token', new.text):+.5f} nats/token; "
        f"margin {found.margin.value:g} {found.margin.unit} = {found.margin_bpb:.5f} bpb"
    )


def _test(result: TestResult) -> str:
    verdict = "beats the baseline by more than the margin" if result.beats(ALPHA) else "does not show it"
    return (
        f"one-sided {result.test} test: t = {result.statistic:.3f}, df = {result.df:.3f}, p = {result.p:.4f}: "
        f"{verdict} (p < {ALPHA})"
    )


def parse_margin(text: str) -> Margin:
    """A margin such as "0.005 nats/token", "0.005 nats/byte" or "0.002 bpb". Raises ``UsageError`` otherwise."""
    number, _, unit = text.strip().partition(" ")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    known = next((name for name in UNITS if name == unit.strip()), None)
    if known is None:
        raise UsageError(
            f"margin is {text!r}.", remedy='Give number and unit: "0.005 nats/token", "… nats/byte", "… bpb".'
        )
    return Margin(value, known)
