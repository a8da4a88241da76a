"""The report as a table for terminals, as Markdown for a pull request, and as JSON data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec
from tabulate import tabulate

from harness.files import write_atomic
from harness.report.figures import Pool, Report
from harness.rules import Verdict
from harness.stats import SeedStatistics, describe
from harness.text import printable

WRAPPED = {"submission": 22, "clocks": 12, "kind": 8}
"""Columns that give way, so that no table is wider than 120."""


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


def pool_table(pool: Pool) -> PlainTable:
    """One row a seed."""
    headers = [("seed", ""), *((f"bpb {words}", "n") for _, words in pool.stages), ("bytes", "n"),
               *((f"{name} s", "n") for name in pool.budgets), ("verdict", "verdict")]  # fmt: skip
    rows = []
    for run in pool.runs:
        scores = {key: f"{bpb:.4f}" for key, bpb in run.stages.items()}
        used = {budget.name: f"{budget.used_s:.1f}" for budget in run.record.budgets}
        row = [str(run.seed), *(scores.get(key, "") for key in pool.stages), f"{run.record.sizes.total_bytes:,}"]
        rows.append([*row, *(used.get(name, "") for name in pool.budgets), run.verdict.value])
    return PlainTable(headers, rows)


def render_terminal(report: Report) -> str:
    """The overview, then one table a pool with its statistics below."""

    def plain(table: PlainTable) -> str:
        names = [name for name, _ in table.headers]
        return tabulate(
            [[printable(cell) for cell in row] for row in table.rows],
            names,
            tablefmt="simple",
            colalign=["right" if kind == "n" else "left" for _, kind in table.headers],
            disable_numparse=True,
            maxcolwidths=[WRAPPED.get(name) for name in names],
            maxheadercolwidths=14,
        )

    parts = [plain(overview_table(report))] if len(report.pools) + len(report.claims) > 1 else []
    for pool in report.pools:
        parts.append(f"{printable(pool.title)}\n\n{plain(pool_table(pool))}")
        if pool.statistics:
            parts.append(describe(pool.statistics))
    parts += list(report.comparison)
    parts += [f"{f.verdict.value} {f.rule}: {printable(f.message, 300)}" for f in report.folder_findings]
    return "\n\n".join(parts)


def render_markdown(report: Report) -> str:
    """Markdown that can be pasted into a pull request; text from records is escaped."""
    return "\n".join(_markdown(report)).strip() + "\n"


def write_markdown(report: Report, path: Path) -> None:
    """Write the Markdown whole or not at all."""
    write_atomic(path.absolute(), render_markdown(report).encode(), replace=True)


def _markdown(report: Report) -> Iterator[str]:
    if len(report.pools) + len(report.claims) > 1:
        yield from ("## Overview", "", *_markdown_table(overview_table(report)), "")
    for pool in report.pools:
        table, found, record = pool_table(pool), pool.statistics, pool.runs[0].record
        title = f"## {escape_markdown(pool.title)}"
        if found:
            over = "one seed" if len(found.seeds) == 1 else f"{len(found.seeds)}-seed mean"
            title += f": {found.bpb.mean:.4f} bpb ({over})"
            table = replace(table, rows=[*table.rows, *_aggregate_rows(found, pool)])
        yield from (title, "", *_markdown_table(table), "")
        if found:
            if found.bpb.low is not None and found.bpb.high is not None:
                interval = f"{found.bpb.low:.5f} to {found.bpb.high:.5f} bpb"
                yield f"- {found.bpb.confidence:.0%} interval: {interval}, for the mean"
            worst = found.worst_bytes
            yield f"- largest artifact: {worst.value:,.0f} of {worst.limit:,.0f} bytes (seed {worst.seed})"
            for name, clock in found.worst_clocks.items():
                yield f"- longest {escape_markdown(name)}: {clock.value:.1f} of {clock.limit:.0f} s (seed {clock.seed})"
        machine = f"{record.machine.cpu}, {record.machine.cpu_cores} cores"
        yield f"- machine: {escape_markdown(machine)}, {escape_markdown(', '.join(record.machine.gpus) or 'no GPU')}"
        yield f"- code `{record.submission.code_digest}`, configuration `{record.submission.config_digest}`"
        for run in pool.runs:
            audits = ", ".join(f"{a.name} {a.verdict} ({a.k} draws)" for a in run.record.audits) or "none"
            name = printable(run.stored.path.name).replace("`", "'")
            yield f"- seed {run.seed}: record `{name}`; audits: {escape_markdown(audits)}"
            for finding in run.findings:
                if finding.verdict not in (Verdict.PASS, Verdict.UNKNOWN):
                    yield f"  - **{finding.verdict.value}** {escape_markdown(f'{finding.rule}: {finding.message}')}"
        yield ""
    for claim in report.claims:
        yield from (f"## {escape_markdown(claim.standing.name)} (self-reported)", "")
        yield from (f"- **{verdict}** {rule}: {escape_markdown(words)}" for rule, verdict, words in claim.findings)
        yield ""
    if report.comparison:
        yield from ("### Against the baseline", "", *(f"- {escape_markdown(line)}" for line in report.comparison), "")
    yield from (f"- **{f.verdict.value}** {f.rule}: {escape_markdown(f.message)}" for f in report.folder_findings)


def _markdown_table(table: PlainTable) -> Iterator[str]:
    yield "| " + " | ".join(escape_markdown(name) for name, _ in table.headers) + " |"
    yield "|" + "".join("---:|" if kind == "n" else "---|" for _, kind in table.headers)
    for row in table.rows:
        yield "| " + " | ".join(escape_markdown(cell) for cell in row) + " |"


def _aggregate_rows(found: SeedStatistics, pool: Pool) -> Iterator[list[str]]:
    """Mean and deviations; none of one seed, whose row says it all and which has no spread to speak of.

    A stage that not every run has gets no figures.
    """
    if len(found.seeds) == 1:
        return
    in_all = set.intersection(*(set(run.stages) for run in pool.runs))
    stages = [found.stages.get(key[0]) if key in in_all else None for key in pool.stages]
    blank = [""] * (len(pool.budgets) + 1)
    for label, name in (("Mean", "mean"), ("Sample std", "sample_std"), ("Population std", "population_std")):
        scores = ["" if summary is None else f"{getattr(summary, name):.4f}" for summary in stages]
        yield [label, *scores, f"{getattr(found.total_bytes, name):,.0f}", *blank]


def escape_markdown(text: str) -> str:
    """``text`` on one line with no Markdown or HTML meaning left in it."""
    clean = printable(text, 300)
    for char in "\\`*_[]<>|#!":
        clean = clean.replace(char, "\\" + char if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return clean.replace("@", "@\u200b")


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
