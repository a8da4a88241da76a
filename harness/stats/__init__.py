"""Statistics over seeds: every estimator by its name, every margin with its unit, by scipy.

aggregate(records) -> SeedStatistics      several seeds of one thing; refuses a mixed pool, naming the field
compare(candidate, baseline, Margin(0.005, "nats/token")) -> Comparison
summarise(values) -> Summary               mean, sample and population deviation, t interval
welch(candidate, baseline, margin=…), paired(…), power(…), seeds_needed(…), paired_power(…), pairs_needed(…)
"""

from harness.stats.compare import (
    Summary,
    TestResult,
    paired,
    paired_power,
    pairs_needed,
    power,
    seeds_needed,
    summarise,
    welch,
)
from harness.stats.seeds import Comparison, SeedStatistics, Worst, aggregate, compare, pools
from harness.stats.wording import (
    counted_pools,
    describe,
    describe_against,
    describe_comparison,
    describe_pools,
    parse_margin,
)
from harness.units import Margin, Text, from_bpb, to_bpb

__all__ = [
    "Comparison",
    "Margin",
    "SeedStatistics",
    "Summary",
    "TestResult",
    "Text",
    "Worst",
    "aggregate",
    "compare",
    "counted_pools",
    "describe",
    "describe_against",
    "describe_comparison",
    "describe_pools",
    "from_bpb",
    "paired",
    "paired_power",
    "pairs_needed",
    "parse_margin",
    "pools",
    "power",
    "seeds_needed",
    "summarise",
    "to_bpb",
    "welch",
]
