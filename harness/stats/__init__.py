"""Statistics over seeds: every estimator by its name, every margin with its unit, by scipy.

aggregate(records) -> SeedStatistics      several seeds of one thing; refuses a mixed pool, naming the field
compare(candidate, baseline, Margin(0.005, "nats/token")) -> Comparison
:mod:`harness.stats.compare` has the tests and their power, :mod:`harness.stats.wording` says all of it in sentences.
"""

from harness.stats.seeds import SeedStatistics as SeedStatistics
from harness.stats.seeds import aggregate as aggregate
from harness.stats.seeds import compare as compare
from harness.stats.seeds import pools as pools
from harness.stats.wording import counted_pools as counted_pools
from harness.stats.wording import describe as describe
from harness.stats.wording import describe_against as describe_against
from harness.stats.wording import describe_pools as describe_pools
