"""One self-contained HTML page: inline style and drawings, no script, nothing fetched from elsewhere."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import harness
from harness.files import write_atomic
from harness.report.figures import Pool, Report, ReportedRun, stage_words
from harness.report.svg import COLOURS, Points, bars, dots, lines, thin
from harness.report.tables import overview_table, pool_table
from harness.rules import rule
from harness.text import printable

IDLE = "idle"
"""The ledger's name for the time between spans."""


def render_page(report: Report) -> str:
    """The page as text. Everything that comes from a record or a folder is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = lambda text: printable(str(text), 300)
    environment.filters["title_of"] = lambda rule_id: rule(rule_id).title
    files = resources.files(__package__)
    template = environment.from_string(files.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        style=Markup(files.joinpath("page.css").read_text(encoding="utf-8")),
        version=harness.__version__,
        overview=overview_table(report),
        pool_table=pool_table,
        drawings=pool_drawings,
    )


def write_page(report: Report, path: Path) -> None:
    """Write the page whole or not at all."""
    write_atomic(path.absolute(), render_page(report).encode(), replace=True)


def pool_drawings(pool: Pool) -> list[tuple[str, Markup]]:
    """[caption, drawing] of one pool, its seeds over each other; what no record holds is left out."""
    found = [
        ("bpb by stage, a dot for each seed", _stages(pool)),
        ("Running bpb over the validation text", _running(pool)),
        ("Training loss", _losses(pool)),
        ("Longest clock spans, against their limits", _clocks(pool)),
        ("Bytes of the largest artifact", _bytes(max(pool.runs, key=lambda run: run.record.sizes.total_bytes))),
    ]
    return [(caption, Markup(picture)) for caption, picture in found if picture]


def _stages(pool: Pool) -> str:
    by_stage = [(words, [score.bpb for run in pool.runs for score in run.record.scores if score.stage == stage])
                for stage, words in stage_words(pool.runs[0].record).items()]  # fmt: skip
    rows = [(words, values) for words, values in by_stage if values]
    bpb = pool.statistics.bpb if pool.statistics else None
    band = (bpb.low, bpb.high) if bpb and bpb.low is not None and bpb.high is not None else None
    return dots(rows, band, f"bpb by stage: {pool.title}") if rows else ""


def _running(pool: Pool) -> str:
    series: list[tuple[str, str, Points]] = []
    for index, run in enumerate(pool.runs):
        if points := thin(run.record.running_bpb):
            packed = next((score.bpb for score in run.record.scores if score.stage == "packed"), None)
            level: Points = [] if packed is None else [(points[0][0], packed), (points[-1][0], packed)]
            series.append((f"seed {run.seed}", f"s{index % COLOURS}", points))
            if frozen := thin(run.record.frozen_bpb) or level:
                series.append(("", f"frozen s{index % COLOURS}", frozen))
    note = "dashed: without adaptation" if any(not name for name, _, _ in series) else ""
    return lines(series, "targets scored", note, f"Running bpb: {pool.title}") if series else ""


def _losses(pool: Pool) -> str:
    series = [(f"seed {run.seed}", f"s{index % COLOURS}", thin(run.record.loss_curve))
              for index, run in enumerate(pool.runs) if run.record.loss_curve]  # fmt: skip
    return lines(series, "steps", "up: nats/token", f"Training loss: {pool.title}") if series else ""


def _clocks(pool: Pool) -> str:
    longest: dict[str, tuple[float, float | None, int]] = {}
    for run in pool.runs:
        for span in run.record.spans:
            if span.name != IDLE and span.seconds >= longest.get(span.name, (-1.0, None, 0))[0]:
                longest[span.name] = (span.seconds, span.limit_s, run.seed)
    rows = [(f"{name}: {seconds:.1f} s" + (f" of {limit:.0f} s" if limit is not None else "") + f" (seed {seed})",
             seconds, limit) for name, (seconds, limit, seed) in longest.items()]  # fmt: skip
    return bars(rows, "from zero, one scale; outlines are limits", f"Clock spans: {pool.title}") if rows else ""


def _bytes(run: ReportedRun) -> str:
    sizes, cap = run.record.sizes, run.record.sizes.cap_bytes
    sections = sorted(run.record.model_sections.items(), key=lambda item: -item[1])
    parts = [(f"total of {cap:,}", sizes.total_bytes), ("code", sizes.code_bytes), ("packed model", sizes.model_bytes)]
    rows = [(f"{name}: {size:,} bytes", float(size), float(cap) if index == 0 else None)
            for index, (name, size) in enumerate(parts)]  # fmt: skip
    rows += [(f"in the model: {printable(name, 24)}: {size:,}", float(size), None) for name, size in sections]
    note = "from zero, one scale" + "; in the model: before its last compression" * bool(sections)
    return bars(rows, note, f"Bytes of seed {run.seed}")
