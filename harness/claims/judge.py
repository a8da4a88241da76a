"""Is a printed mean or deviation what its inputs give? Shared by tables and headlines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.claims.claim import Claim, disputed, failed, passed
from harness.claims.quantity import Quantity
from harness.claims.spread import mean_of, std_of

NAMED_POPULATION = re.compile(r"population|pstdev|pop\.? std|ddof\s*=\s*0|σ_n\b", re.IGNORECASE)
NAMED_SAMPLE = re.compile(r"sample|ddof\s*=\s*1|n\s*[-−]\s*1", re.IGNORECASE)


def judge_mean(claimed: Quantity, values: Sequence[Quantity], line: int, quote: str, what: str) -> Claim:
    """The mean of ``values`` as printed, or as some unrounded inputs would give it."""
    mean = mean_of(values)
    right = claimed.like(mean.value)
    if claimed.admits(mean.low, mean.high):
        return passed(line, quote, what, f"{len(values)} seeds give {right}", claimed.text)
    named = _which_one(claimed, values)
    text = f"the mean of {len(values)} seeds is {_exact(mean.value, claimed)}"
    if named:
        text += f"; {claimed.text.strip()} is the {named}"
    if claimed.kind == "bytes":
        text += f"; the worst, which decides the cap, has {max(v.value for v in values):,.0f} bytes"
    return failed(line, quote, what, text, claimed.text, right)


def _which_one(claimed: Quantity, values: Sequence[Quantity]) -> str:
    low, high = min(values, key=lambda v: v.value), max(values, key=lambda v: v.value)
    if claimed.admits(low.low, low.high):
        return "smallest seed alone"
    return "largest seed alone" if claimed.admits(high.low, high.high) else ""


def _exact(value: float, claimed: Quantity) -> str:
    if claimed.kind == "bytes" and claimed.step > 1:
        return f"{value:,.0f} bytes ({claimed.like(value)})"
    return claimed.like(value)


def judge_std(
    claimed: Quantity, values: Sequence[Quantity], line: int, quote: str, what: str, context: str = ""
) -> Claim:
    """A standard deviation: the sample one (n - 1) unless ``context`` names the population one.

    A claim that some unrounded inputs give as the sample deviation holds. One that only the population deviation gives
    is disputed unless it says so: the tests over seeds need the sample one.
    """
    sample, population = std_of(values, sample=True), std_of(values, sample=False)
    both = f"sample {claimed.like(sample.value)}, population {claimed.like(population.value)}"
    right = claimed.like(sample.value)
    by_name = bool(NAMED_POPULATION.search(context))
    if by_name and claimed.admits(population.low, population.high):
        return passed(line, quote, what, f"population deviation, as named ({both})", claimed.text)
    if not by_name and claimed.admits(sample.value, sample.value):
        return passed(line, quote, what, f"sample deviation ({both})", claimed.text)
    by_other_name = bool(NAMED_SAMPLE.search(context))
    if claimed.admits(sample.low, sample.high):
        return passed(line, quote, what, f"sample deviation of unrounded values ({both} as printed)", claimed.text)
    if claimed.admits(population.value, population.value) and not by_other_name:
        text = f"this is the population deviation; the sample one is {right} ({both})"
        return disputed(line, quote, what, text, claimed.text, right)
    if claimed.admits(population.low, population.high) and not by_other_name:
        text = (
            f"the printed values do not give it ({both}); only the population deviation of unrounded values could "
            f"({claimed.like(population.low)} to {claimed.like(population.high)})"
        )
        return disputed(line, quote, what, text, claimed.text, right)
    return failed(line, quote, what, f"neither deviation: {both}", claimed.text, right)
