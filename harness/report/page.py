"""The report as one self-contained HTML page (no script, nothing fetched from elsewhere) and as Markdown, by templates.

Everything that comes from a record or a folder is escaped: in HTML by the template engine, elsewhere by filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

import harness
from harness.report.figures import Pool, Report, overview_table, pool_table
from harness.report.svg import COLOURS, Points, bars, dots, lines, thin
from harness.text import printable, templates

IDLE = "idle"
"""The ledger's name for the time between spans."""


def render_page(report: Report) -> str:
    """The page as text."""
    return TEMPLATES.get_template("page.html.jinja").render(report=report, overview=overview_table(report))


def render_markdown(report: Report, width: int = 1 << 20) -> str:
    """Markdown that can be pasted into a pull request; its tables have the columns that fit in ``width`` characters."""
    values = {"report": report, "overview": overview_table(report), "width": width}
    text = TEMPLATES.get_template("report.md.jinja").render(values)
    return text.strip() + "\n"


def escape_markdown(text: str) -> str:
    """``text`` on one line with no Markdown or HTML meaning left in it."""
    clean = printable(text, 300)
    for char in "\\`*_[]<>|#!":
        clean = clean.replace(char, "\\" + char if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return clean.replace("@", "@\u200b")


def pool_drawings(pool: Pool) -> Iterator[tuple[str, Markup]]:
    """[caption, drawing] of one pool, its seeds over each other; what no record holds is left out."""
    # A dot for each seed, and the interval of the mean behind the final stage.
    by_stage = [(words, [score.bpb for run in pool.runs for score in run.record.scores if score.stage == stage])
                for stage, words in pool.runs[0].record.stages.items()]  # fmt: skip
    if stages := [(words, values) for words, values in by_stage if values]:
        bpb = pool.statistics.bpb if pool.statistics else None
        band = (bpb.low, bpb.high) if bpb and bpb.low is not None and bpb.high is not None else None
        yield "bpb by stage, a dot for each seed", Markup(dots(stages, band, f"bpb by stage: {pool.title}"))

    running: list[tuple[str, str, Points]] = []
    losses: list[tuple[str, str, Points]] = []
    longest: dict[str, tuple[float, float | None, int]] = {}
    for index, run in enumerate(pool.runs):
        record, colour = run.record, f"s{index % COLOURS}"
        if points := thin(record.running_bpb):
            running.append((f"seed {run.seed}", colour, points))
            packed = next((score.bpb for score in record.scores if score.stage == "packed"), None)
            level: Points = [] if packed is None else [(points[0][0], packed), (points[-1][0], packed)]
            if frozen := thin(record.frozen_bpb) or level:
                running.append(("", f"frozen {colour}", frozen))
        if record.loss_curve:
            losses.append((f"seed {run.seed}", colour, thin(record.loss_curve)))
        for span in record.spans:
            if span.name != IDLE and span.seconds >= longest.get(span.name, (-1.0, None, 0))[0]:
                longest[span.name] = (span.seconds, span.limit_s, run.seed)
    if running:
        note = "dashed: without adaptation" if any(not name for name, _, _ in running) else ""
        picture = lines(running, "targets scored", note, f"Running bpb: {pool.title}")
        yield "Running bpb over the validation text", Markup(picture)
    if losses:
        yield "Training loss", Markup(lines(losses, "steps", "up: nats/token", f"Training loss: {pool.title}"))
    if longest:
        rows = [(f"{name}: {seconds:.1f} s" + (f" of {limit:.0f} s" if limit is not None else "") + f" (seed {seed})",
                 seconds, limit) for name, (seconds, limit, seed) in longest.items()]  # fmt: skip
        picture = bars(rows, "from zero, one scale; outlines are limits", f"Clock spans: {pool.title}")
        yield "Longest clock spans, against their limits", Markup(picture)

    largest = max(pool.runs, key=lambda run: run.record.sizes.total_bytes)
    sizes, sections = largest.record.sizes, largest.record.model_sections
    total = f"total of {sizes.cap_bytes:,}: {sizes.total_bytes:,} bytes"
    rows = [(total, sizes.total_bytes, sizes.cap_bytes), (f"code: {sizes.code_bytes:,} bytes", sizes.code_bytes, None)]
    rows.append((f"packed model: {sizes.model_bytes:,} bytes", sizes.model_bytes, None))
    for name, size in sorted(sections.items(), key=lambda item: -item[1]):
        rows.append((f"in the model: {printable(name, 24)}: {size:,}", size, None))
    note = "from zero, one scale" + "; in the model: before its last compression" * bool(sections)
    yield "Bytes of the largest artifact", Markup(bars(rows, note, f"Bytes of seed {largest.seed}"))


TEMPLATES = templates(Path(__file__).parent)
TEMPLATES.filters["md"] = escape_markdown
TEMPLATES.globals |= {"version": harness.__version__, "pool_table": pool_table, "drawings": pool_drawings}
