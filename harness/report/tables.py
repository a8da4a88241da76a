"""The report as tables, for pages and Markdown, and as JSON data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.report.figures import Pool, Report
from harness.rules import Verdict


@dataclass(frozen=True)
class PlainTable:
    """headers: (name, kind) with kind "n" for numbers, "name", "verdict" or ""; links: ids on the page, a row each."""

    headers: list[tuple[str, str]]
    rows: list[list[str]]
    links: list[str] = field(default_factory=list)


def overview_table(report: Report) -> PlainTable:
    """One row a set of seeds or folder, by track and text, best first; what fails or has no score is not ranked."""
    found = [(pool.standing, f"pool-{index}") for index, pool in enumerate(report.pools, 1)]
    found += [(claim.standing, f"claim-{index}") for index, claim in enumerate(report.claims, 1)]
    found.sort(key=lambda item: (item[0].ranked_in, item[0].bpb is None, item[0].bpb or 0.0))
    headers = [("rank", "n"), ("submission", "name"), ("track", ""), ("data", ""), ("bpb", "n"), ("n", "n"),
               ("bytes", "n"), ("clocks", ""), ("verdict", "verdict"), ("kind", "")]  # fmt: skip
    ranks: Counter[tuple[str, str]] = Counter()
    rows = []
    for line, _ in found:
        ranked = line.verdict is not Verdict.FAIL and line.bpb is not None
        ranks[line.ranked_in] += ranked
        bpb = "none" if line.bpb is None else f"{line.bpb:.4f}"
        bpb += f" ± {line.sample_std:.4f}" if line.sample_std is not None else ""
        size = "unknown" if line.total_bytes is None else f"{line.total_bytes:,}"
        times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in line.clocks.items()) or "unknown"
        place = [str(ranks[line.ranked_in]) if ranked else "-", line.name, line.track, line.data]
        rows.append([*place, bpb, str(line.seeds), size, times, line.verdict.value, line.kind])
    return PlainTable(headers, rows, [link for _, link in found])


def pool_table(pool: Pool, *, summed: bool = False) -> PlainTable:
    """One row a seed.

    summed: also mean and deviations, of the stages that every run has; one seed has none, its row says it all
    """
    headers = [("seed", ""), *((f"bpb {words}", "n") for _, words in pool.stages), ("bytes", "n"),
               *((f"{name} s", "n") for name in pool.budgets), ("verdict", "verdict")]  # fmt: skip
    rows = []
    for run in pool.runs:
        scores = {key: f"{bpb:.4f}" for key, bpb in run.stages.items()}
        used = {budget.name: f"{budget.used_s:.1f}" for budget in run.record.budgets}
        row = [str(run.seed), *(scores.get(key, "") for key in pool.stages), f"{run.record.sizes.total_bytes:,}"]
        rows.append([*row, *(used.get(name, "") for name in pool.budgets), run.verdict.value])
    if summed and (found := pool.statistics) and len(found.seeds) > 1:
        in_all = [all(key in run.stages for run in pool.runs) for key in pool.stages]
        stages = [found.stages.get(key[0]) if there else None for key, there in zip(pool.stages, in_all, strict=True)]
        for label, name in (("Mean", "mean"), ("Sample std", "sample_std"), ("Population std", "population_std")):
            means = ["" if summary is None else f"{getattr(summary, name):.4f}" for summary in stages]
            size = f"{getattr(found.total_bytes, name):,.0f}"
            rows.append([label, *means, size, *[""] * (len(pool.budgets) + 1)])
    return PlainTable(headers, rows)


def report_document(report: Report) -> dict[str, object]:
    """JSON data: the overview, pools with statistics and runs, findings about the folder, the comparison."""
    overview = overview_table(report)
    return {
        "overview": [dict(zip([name for name, _ in overview.headers], row, strict=True)) for row in overview.rows],
        "pools": [
            {
                "title": pool.title,
                "statistics": pool.statistics,
                "runs": [
                    {
                        "file": run.stored.path.name,
                        "digest": run.stored.digest,
                        "seed": run.seed,
                        "verdict": run.verdict.value,
                        "bpb": {score.stage: score.bpb for score in run.record.scores},
                        "total_bytes": run.record.sizes.total_bytes,
                        "budgets": run.record.budgets,
                        "findings": run.findings,
                    }
                    for run in pool.runs
                ],
            }
            for pool in report.pools
        ],
        "public_folders": report.claims,
        "folder_findings": report.folder_findings,
        "comparison": report.comparison,
    }
