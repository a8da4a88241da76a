"""The report as tables, for terminals and for pages, and as JSON data."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field

import msgspec
from tabulate import tabulate

from harness.report.figures import Pool, Report
from harness.rules import Verdict
from harness.stats.wording import describe
from harness.text import printable

WRAPPED = {"submission": 18, "clocks": 12}
GIVES = ("clocks", "data", "eval s", "train s", "n", "bytes", "track", "bpb before quantisation", "rank")
"""Columns that a narrow terminal leaves out, this one first; page and Markdown have all."""


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


def render_terminal(report: Report) -> str:
    """The overview, then one table a pool with its statistics below."""

    width = shutil.get_terminal_size((120, 24)).columns

    def plain(table: PlainTable, left_out: int = 0) -> str:
        shown = [at for at, (name, _) in enumerate(table.headers) if name not in GIVES[:left_out]]
        headers = [table.headers[at] for at in shown]
        text = tabulate(
            [[printable(row[at]) for at in shown] for row in table.rows],
            [name for name, _ in headers],
            tablefmt="simple",
            colalign=["right" if kind == "n" else "left" for _, kind in headers],
            disable_numparse=True,
            maxcolwidths=[WRAPPED.get(name) for name, _ in headers],
            maxheadercolwidths=14,
        )
        fits = max(map(len, text.splitlines())) <= width or left_out == len(GIVES)
        return text if fits else plain(table, left_out + 1)

    parts = [plain(overview_table(report))] if len(report.pools) + len(report.claims) > 1 else []
    for pool in report.pools:
        parts.append(f"{printable(pool.title)}\n\n{plain(pool_table(pool))}")
        if pool.statistics:
            parts.append(describe(pool.statistics))
    parts += list(report.comparison)
    parts += [f"{f.verdict.value} {f.rule}: {printable(f.message, 300)}" for f in report.folder_findings]
    return "\n\n".join(parts)


def report_document(report: Report) -> dict[str, object]:
    """JSON data: the overview, pools with statistics and runs, findings about the folder, the comparison."""
    overview = overview_table(report)
    return {
        "overview": [dict(zip([name for name, _ in overview.headers], row, strict=True)) for row in overview.rows],
        "pools": [
            {
                "title": pool.title,
                "statistics": msgspec.to_builtins(asdict(pool.statistics)) if pool.statistics else None,
                "runs": [
                    {
                        "file": run.stored.path.name,
                        "digest": run.stored.digest,
                        "seed": run.seed,
                        "verdict": run.verdict.value,
                        "bpb": {score.stage: score.bpb for score in run.record.scores},
                        "total_bytes": run.record.sizes.total_bytes,
                        "budgets": msgspec.to_builtins(run.record.budgets),
                        "findings": msgspec.to_builtins(list(run.findings)),
                    }
                    for run in pool.runs
                ],
            }
            for pool in report.pools
        ],
        "public_folders": msgspec.to_builtins([asdict(claim) for claim in report.claims]),
        "folder_findings": msgspec.to_builtins(list(report.folder_findings)),
        "comparison": list(report.comparison),
    }
