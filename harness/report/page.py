"""One self-contained HTML page: inline style and drawings, no script, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import harness
from harness.files import write_atomic
from harness.report.figures import Pool, Report, Run
from harness.report.svg import byte_bars, curve, seed_dots, thin, timeline, waterfall
from harness.rules import rule
from harness.text import printable

IDLE = "idle"
"""The ledger's name for the time between spans."""


def render_page(report: Report) -> str:
    """The page as text. Everything that comes from a record is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = lambda text: printable(str(text), 300)
    environment.filters["title_of"] = lambda rule_id: rule(rule_id).title
    files = resources.files(__package__)
    template = environment.from_string(files.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    style = Markup(files.joinpath("page.css").read_text(encoding="utf-8"))
    return template.render(
        report=report, style=style, version=harness.__version__, seeds=pool_drawing, drawings=run_drawings
    )


def write_page(report: Report, path: Path) -> None:
    """Write the page whole or not at all."""
    write_atomic(path.absolute(), render_page(report).encode(), replace=True)


def pool_drawing(pool: Pool) -> Markup | None:
    """The seeds of a pool with their mean and interval; ``None`` without statistics."""
    found = pool.statistics
    if found is None:
        return None
    title = f"Final bpb by seed: {pool.title}"
    return Markup(seed_dots(list(found.by_seed.items()), found.bpb.mean, found.bpb.low, found.bpb.high, title))


def run_drawings(run: Run) -> list[tuple[str, Markup]]:
    """[caption, drawing] of one run; a drawing whose figures the record does not hold is left out."""
    record, seed = run.record, f"seed {run.seed}"
    spans = [(span.name, span.start_s, span.seconds, span.limit_s) for span in record.spans if span.name != IDLE]
    idle_s = sum(span.seconds for span in record.spans if span.name == IDLE)
    makers: list[tuple[str, bool, Callable[[], str]]] = [
        ("bpb by stage", bool(run.stages), lambda: waterfall(run.stages, f"bpb by stage, {seed}")),
        (
            "Running bpb over the validation set",
            bool(record.running_bpb),
            lambda: curve(thin(record.running_bpb), f"Running bpb, {seed}", "targets scored", "bpb so far"),
        ),
        ("Clock spans against their limits", bool(spans), lambda: timeline(spans, idle_s, f"Clock spans, {seed}")),
        ("Bytes by role", True, lambda: byte_bars(*_bytes(run), title=f"Bytes by role, {seed}")),
        (
            "Training loss",
            bool(record.loss_curve),
            lambda: curve(thin(record.loss_curve), f"Training loss, {seed}", "steps", "loss, nats/token"),
        ),
    ]
    return [(caption, Markup(make())) for caption, there, make in makers if there]


def _bytes(run: Run) -> tuple[list[tuple[str, int]], int, int]:
    sizes = run.record.sizes
    parts = [("code bundle", sizes.code_bytes), ("packed model", sizes.model_bytes)]
    sections = sorted(run.record.model_sections.items(), key=lambda item: -item[1])
    parts += [(f"model: {printable(name, 24)}", size) for name, size in sections]
    return parts, sizes.total_bytes, sizes.cap_bytes
