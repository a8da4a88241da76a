"""The report as a table for terminals and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from harness.record.canonical import write_atomic
from harness.record.render import printable
from harness.report.figures import Pool, Report, Run
from harness.rules import Verdict
from harness.stats import SeedStatistics, describe


def render_terminal(report: Report) -> str:
    """One table a pool, with its statistics below."""
    parts = []
    for pool in report.pools:
        header, rows = _table(pool)
        parts.append(f"{printable(pool.title)}\n\n{_plain_table(header, rows)}")
        if pool.statistics:
            parts.append(describe(pool.statistics))
    parts += list(report.comparison)
    parts += [f"{f.verdict.value} {f.rule}: {printable(f.message, 300)}" for f in report.folder_findings]
    return "\n\n".join(parts)


def _plain_table(header: list[str], rows: list[list[str]]) -> str:
    align = ["left", *["right"] * (len(header) - 2), "left"]
    return tabulate(rows, headers=header, tablefmt="simple", colalign=align, disable_numparse=True)


def render_markdown(report: Report) -> str:
    """Markdown that can be pasted into a pull request; text from records is escaped."""
    return "\n".join(_markdown(report)).strip() + "\n"


def write_markdown(report: Report, path: Path) -> None:
    """Write the Markdown whole or not at all."""
    write_atomic(path.absolute(), render_markdown(report).encode(), replace=True)


def _markdown(report: Report) -> Iterator[str]:
    for pool in report.pools:
        header, rows = _table(pool)
        found = pool.statistics
        title = escape_markdown(pool.title)
        yield f"## {title}" + (f": {found.bpb.mean:.4f} bpb ({_over(found)})" if found else "")
        yield ""
        yield from _markdown_table([header, *rows, *(_aggregate_rows(found, pool) if found else [])])
        yield ""
        if found:
            yield from _facts(found)
        yield from _run_facts(pool)
    if report.comparison:
        yield "### Against the baseline"
        yield ""
        yield from (f"- {escape_markdown(line)}" for line in report.comparison)
        yield ""
    yield from (f"- **{f.verdict.value}** {f.rule}: {escape_markdown(f.message)}" for f in report.folder_findings)


def _over(found: SeedStatistics) -> str:
    return "one seed" if len(found.seeds) == 1 else f"{len(found.seeds)}-seed mean"


def _markdown_table(rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(escape_markdown(cell) for cell in rows[0]) + " |"
    yield "|---|" + "---:|" * (len(rows[0]) - 2) + "---|"
    for row in rows[1:]:
        yield "| " + " | ".join(escape_markdown(cell) for cell in row) + " |"


def _table(pool: Pool) -> tuple[list[str], list[list[str]]]:
    first = pool.runs[0]
    budgets = [budget.name for budget in first.record.budgets]
    header = ["seed", *(f"bpb {words}" for words, _ in first.stages), "bytes", *(f"{b} s" for b in budgets), "verdict"]
    return header, [_row(run, len(first.stages), budgets) for run in pool.runs]


def _row(run: Run, stages: int, budgets: list[str]) -> list[str]:
    scores = [f"{bpb:.4f}" for _, bpb in run.stages][:stages]
    used = {budget.name: f"{budget.used_s:.1f}" for budget in run.record.budgets}
    total = f"{run.record.sizes.total_bytes:,}"
    filled = scores + [""] * (stages - len(scores))
    return [str(run.seed), *filled, total, *(used.get(name, "") for name in budgets), run.verdict.value]


def _aggregate_rows(found: SeedStatistics, pool: Pool) -> Iterator[list[str]]:
    """Mean and deviations; none of one seed, whose row says it all and which has no spread to speak of."""
    stages = [found.stages[name] for name in ("float", "packed", "final") if name in found.stages]
    if len(found.seeds) == 1 or len(stages) != len(pool.runs[0].stages):
        return
    blank = [""] * len(pool.runs[0].record.budgets)
    yield ["Mean", *(f"{s.mean:.4f}" for s in stages), f"{found.total_bytes.mean:,.0f}", *blank, ""]
    for words, name in (("Sample std", "sample_std"), ("Population std", "population_std")):
        values = [getattr(summary, name) for summary in (*stages, found.total_bytes)]
        yield [words, *(f"{value:.4f}" for value in values[:-1]), f"{values[-1]:,.0f}", *blank, ""]


def _facts(found: SeedStatistics) -> Iterator[str]:
    if found.bpb.low is not None and found.bpb.high is not None:
        yield f"- {found.bpb.confidence:.0%} interval of the mean: {found.bpb.low:.5f} to {found.bpb.high:.5f} bpb"
    worst = found.worst_bytes
    yield f"- largest artifact: {worst.value:,.0f} of {worst.limit:,.0f} bytes (seed {worst.seed})"
    for name, clock in found.worst_clocks.items():
        yield f"- longest {escape_markdown(name)}: {clock.value:.1f} of {clock.limit:.0f} s (seed {clock.seed})"


def _run_facts(pool: Pool) -> Iterator[str]:
    record = pool.runs[0].record
    gpus = ", ".join(record.machine.gpus) or "no GPU"
    yield f"- machine: {escape_markdown(record.machine.cpu)}, {record.machine.cpu_cores} cores, {escape_markdown(gpus)}"
    yield f"- code `{record.submission.code_digest}`, configuration `{record.submission.config_digest}`"
    for run in pool.runs:
        audits = ", ".join(f"{a.name} {a.verdict} ({a.k} draws)" for a in run.record.audits) or "none"
        yield f"- seed {run.seed}: record `{run.stored.path.name}`; audits: {escape_markdown(audits)}"
        for finding in run.findings:
            if finding.verdict not in (Verdict.PASS, Verdict.UNKNOWN):
                yield f"  - **{finding.verdict.value}** {finding.rule}: {escape_markdown(finding.message)}"
    yield ""


def escape_markdown(text: str) -> str:
    """``text`` on one line with no Markdown or HTML meaning left in it."""
    clean = printable(text, 300)
    for char in "\\`*_[]<>|#!":
        clean = clean.replace(char, "\\" + char if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return clean.replace("@", "@\u200b")
