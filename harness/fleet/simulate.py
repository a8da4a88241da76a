"""A small queueing simulation: how many 8-GPU nodes do 10,000 submissions a week need, and who waits how long?

    python -m harness.fleet.simulate --nodes 40 --seed 1 --figure queue.svg

Model. Submissions come as a Poisson process whose rate follows the hour of the day and doubles on the last two days of
the week (a deadline). Each is screened on one CPU first, which removes a share of them. What is left asks for a whole
node: one refereed run, and for some two more seeds and a rerun. A node serves one run at a time; runs wait in three
priorities: claims of a new best score, reruns for reviewers, everything else. A run is never interrupted.
"""

from __future__ import annotations

import argparse
import heapq
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

WEEK_MIN = 7 * 24 * 60.0
GPUS_PER_NODE = 8
PRIORITIES = ("new best", "rerun", "other")


@dataclass(frozen=True)
class Plan:
    """What a week looks like. Shares are fractions, times are minutes, sizes are megabytes (decimal).

    run_min: set-up, 10 min of training, packaging and evaluation, audits; spread: log-normal sigma of that time
    """

    submissions: int = 10_000
    screened_out: float = 0.25
    new_best: float = 0.03
    rerun: float = 0.05
    seeds_of_new_best: int = 3
    run_min: float = 27.0
    audit_min: float = 3.0
    spread: float = 0.12
    failed: float = 0.02
    stored_mb: float = 18.0
    deadline_surge: float = 2.0


@dataclass(frozen=True)
class Week:
    """What came out: waits in minutes by priority, use of the nodes, GPU hours, storage in gigabytes."""

    nodes: int
    runs: int
    utilisation: float
    gpu_hours: float
    audit_gpu_hours: float
    stored_gb: float
    median_wait_min: dict[str, float]
    p95_wait_min: dict[str, float]
    longest_queue: int


def arrivals(plan: Plan, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Arrival times in minutes, sorted, drawn by thinning a faster Poisson process."""
    at = np.sort(random.uniform(0, WEEK_MIN, random.poisson(plan.submissions * 4)))
    hour, day = (at / 60) % 24, at / (24 * 60)
    rate = (1 + 0.6 * np.sin((hour - 9) / 24 * 2 * np.pi)) * np.where(day >= 5, plan.deadline_surge, 1.0)
    kept = at[random.uniform(0, rate.max(), len(at)) < rate]
    chosen = random.choice(len(kept), size=min(len(kept), plan.submissions), replace=False)
    return np.sort(kept[chosen])


def simulate(plan: Plan, nodes: int, seed: int) -> Week:
    """One week on ``nodes`` nodes, every run served to its end."""
    random = np.random.default_rng(seed)
    requests = _requests(plan, random)
    waits: dict[int, list[float]] = {0: [], 1: [], 2: []}
    free_at = [0.0] * nodes
    queue: list[tuple[int, float, float]] = []
    busy = longest = at = 0.0
    upcoming = 0
    while upcoming < len(requests) or queue:
        now = max(free_at[0], at)
        while upcoming < len(requests) and requests[upcoming][0] <= now:
            arrived, priority, minutes = requests[upcoming]
            heapq.heappush(queue, (priority, arrived, minutes))
            upcoming += 1
        if not queue:
            at = requests[upcoming][0]
            continue
        longest = max(longest, len(queue))
        priority, arrived, minutes = heapq.heappop(queue)
        start = max(heapq.heappop(free_at), arrived)
        heapq.heappush(free_at, start + minutes)
        waits[priority].append(start - arrived)
        busy += minutes
    end = max(WEEK_MIN, *free_at)
    return Week(
        nodes=nodes,
        runs=len(requests),
        utilisation=busy / (nodes * end),
        gpu_hours=busy / 60 * GPUS_PER_NODE,
        audit_gpu_hours=len(requests) * plan.audit_min / 60 * GPUS_PER_NODE,
        stored_gb=len(requests) * plan.stored_mb / 1000,
        median_wait_min=_by_priority(waits, 50),
        p95_wait_min=_by_priority(waits, 95),
        longest_queue=int(longest),
    )


def _requests(plan: Plan, random: np.random.Generator) -> list[tuple[float, int, float]]:
    """(arrival, priority, minutes) of every run on a node, by arrival."""
    requests = []
    for at in arrivals(plan, random):
        kind = random.uniform()
        if kind < plan.screened_out:
            continue
        best, again = random.uniform() < plan.new_best, random.uniform() < plan.rerun
        for _ in range(plan.seeds_of_new_best if best else 1):
            requests.append((float(at), 0 if best else 2, _minutes(plan, random)))
        if again:
            requests.append((float(at) + plan.run_min, 1, _minutes(plan, random)))
    return sorted(requests)


def _minutes(plan: Plan, random: np.random.Generator) -> float:
    """Minutes of one run; a run that fails in the middle is run once more."""
    minutes = plan.run_min * float(random.lognormal(0, plan.spread))
    return minutes * (1.5 if random.uniform() < plan.failed else 1.0)


def _by_priority(waits: dict[int, list[float]], percentile: float) -> dict[str, float]:
    return {
        name: round(float(np.percentile(waits[at], percentile)), 2) if waits[at] else 0.0
        for at, name in enumerate(PRIORITIES)
    }


def draw(weeks: list[Week], path: Path) -> None:
    """95th percentile of the wait against the number of nodes, one line a priority, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "golf"
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for name in PRIORITIES:
        axes.plot([w.nodes for w in weeks], [w.p95_wait_min[name] + 0.1 for w in weeks], marker="o", label=name)
    axes.set(yscale="log", xlabel="nodes of 8 GPUs", ylabel="95 % wait at most, minutes")
    axes.set_title("Waiting time of 10,000 submissions a week")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Print one JSON line a number of nodes; draw the figure when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[28, 30, 32, 36, 40, 48, 56, 64])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args(argv)
    weeks = [simulate(Plan(), nodes, options.seed) for nodes in options.nodes]
    for week in weeks:
        print(json.dumps(asdict(week)))
    if options.figure:
        draw(weeks, options.figure)


if __name__ == "__main__":
    main()
