"""The report as one self-contained HTML page (no script, nothing fetched from elsewhere) and as Markdown, by templates.

Everything that comes from a record or a folder is escaped: in HTML by the template engine, elsewhere by filters.
Drawings are SVG: dots on an axis, bars from zero, lines over each other. Colours are CSS classes of the page (``s0`` to
``s5`` for seeds), so they follow light and dark mode; each has a title and a description for those who do not see it.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

import harness
from harness.report.figures import Pool, Report, overview_table, pool_table
from harness.text import printable, templates

IDLE = "idle"  # the ledger's name for the time between spans
WIDTH, MARGIN, COLOURS = 420.0, 4.0, 6
FAR = 1e15  # what a submission says of its own loss may be any number; what lies beyond is drawn at the edge
Points = Sequence[tuple[float, float]]
_NO_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#!"} | {"<": "&lt;", ">": "&gt;", "@": "@\u200b"})
TEMPLATES = templates(Path(__file__).parent)
TEMPLATES.globals |= {"WIDTH": WIDTH, "MARGIN": MARGIN, "COLOURS": COLOURS}
SVG: Any = TEMPLATES.get_template("svg.html.jinja").module


def render_page(report: Report) -> str:
    """The page as text."""
    return TEMPLATES.get_template("page.html.jinja").render(report=report, overview=overview_table(report))


def render_markdown(report: Report, width: int = 1 << 20) -> str:
    """Markdown that can be pasted into a pull request; its tables have the columns that fit in ``width`` characters."""
    values = {"report": report, "overview": overview_table(report), "width": width}
    return TEMPLATES.get_template("report.md.jinja").render(values).strip() + "\n"


def pool_drawings(pool: Pool) -> Iterator[tuple[str, Markup]]:
    """[caption, drawing] of one pool, its seeds over each other; what no record holds is left out."""
    # A dot for each seed, and the interval of the mean behind the final stage.
    by_stage = [(words, [score.bpb for run in pool.runs for score in run.record.scores if score.stage == stage])
                for stage, words in pool.runs[0].record.stages.items()]  # fmt: skip
    if stages := [(words, values) for words, values in by_stage if values]:
        bpb = pool.statistics.bpb if pool.statistics else None
        band = (bpb.low, bpb.high) if bpb and bpb.low is not None and bpb.high is not None else None
        yield "bpb by stage, a dot for each seed", dots(stages, band, f"bpb by stage: {pool.title}")

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
        yield "Running bpb over the validation text", picture
    if losses:
        yield "Training loss", lines(losses, "steps", "up: nats/token", f"Training loss: {pool.title}")
    if longest:
        rows = [(f"{name}: {seconds:.1f} s" + (f" of {limit:.0f} s" if limit is not None else "") + f" (seed {seed})",
                 seconds, limit) for name, (seconds, limit, seed) in longest.items()]  # fmt: skip
        picture = bars(rows, "from zero, one scale; outlines are limits", f"Clock spans: {pool.title}")
        yield "Longest clock spans, against their limits", picture

    largest = max(pool.runs, key=lambda run: run.record.sizes.total_bytes)
    sizes, sections = largest.record.sizes, largest.record.model_sections
    total = f"total of {sizes.cap_bytes:,}: {sizes.total_bytes:,} bytes"
    rows = [(total, sizes.total_bytes, sizes.cap_bytes), (f"code: {sizes.code_bytes:,} bytes", sizes.code_bytes, None)]
    rows.append((f"packed model: {sizes.model_bytes:,} bytes", sizes.model_bytes, None))
    for name, size in sorted(sections.items(), key=lambda item: -item[1]):
        rows.append((f"in the model: {printable(name, 24)}: {size:,}", size, None))
    note = "from zero, one scale" + "; in the model: before its last compression" * bool(sections)
    yield "Bytes of the largest artifact", bars(rows, note, f"Bytes of seed {largest.seed}")


def _near(value: float) -> float:
    return max(-FAR, min(FAR, value))


def dots(rows: Sequence[tuple[str, Sequence[float]]], band: tuple[float, float] | None, title: str) -> Markup:
    """A row for each stage with a dot for each value (in the order of the seeds) and a tick at their mean.

    band: an interval to be drawn behind the last row
    """
    rows = [(name, [_near(value) for value in values]) for name, values in rows]
    every = [value for _, values in rows for value in values] + [_near(value) for value in band or ()]
    pad = max((max(every) - min(every)) * 0.06, max(map(abs, every)) * 1e-9, 1e-6)
    first, last = min(every) - pad, max(every) + pad
    left, right = MARGIN + 8, WIDTH - 66

    def place(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    told = "; ".join(f"{name}: " + ", ".join(f"{value:.4f}" for value in values) for name, values in rows)
    means = [sum(values) / len(values) for _, values in rows]
    return Markup(SVG.dots(rows, means, band, _ticks(first, last), place, (left, right), title, told))


def bars(rows: Sequence[tuple[str, float, float | None]], note: str, title: str) -> Markup:
    """Bars from zero on one scale: (what it says, value, limit); a limit is the outline behind its bar."""
    most = max(max(value, limit or 0.0) for _, value, limit in rows) or 1.0
    return Markup(SVG.bars(rows, (WIDTH - 2 * MARGIN) / most, note, title))


def lines(series: Sequence[tuple[str, str, Points]], x_name: str, note: str, title: str) -> Markup:
    """Lines (name, CSS class, points) over each other. The vertical range is that of the last nine tenths of each:
    a steeper beginning enters from the edge. A line without a name is not in the legend."""
    left, top, right, bottom = 58.0, 12.0, WIDTH - MARGIN, 190.0
    settled = [y for _, _, points in series for _, y in points[len(points) // 10 :]]
    low, high = min(settled), max(settled)
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    first = min(points[0][0] for _, _, points in series)
    last = max(first + 1e-9, *(points[-1][0] for _, _, points in series))

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * (x - first) / (last - first), bottom - (bottom - top) * (y - low) / (high - low)

    curves = [(name, kind, [place(x, y) for x, y in _entering(points, low, high)]) for name, kind, points in series]
    up = [(place(first, tick)[1], f"{tick:g}") for tick in _ticks(low, high)]
    across = [(place(tick, low)[0], _short(tick)) for tick in _ticks(first, last)]
    told = [
        f"{name} from {points[0][1]:.4f} at {points[0][0]:,.0f} to {points[-1][1]:.4f}"
        for name, _, points in series
        if name
    ]
    below, words = f"across: {x_name}{'; ' * bool(note)}{note}", f"over {x_name}: {'; '.join(told)}; {note}"
    return Markup(SVG.lines(curves, up, across, left, right, bottom, below, title, words))


def _entering(points: Points, low: float, high: float) -> Points:
    """The points after the last one outside [low, high], and before them where the line crosses its edge."""
    outside = [i for i, (_, y) in enumerate(points) if not low <= y <= high]
    if not outside or outside[-1] == len(points) - 1:
        return points
    (x, y), (next_x, next_y) = points[outside[-1]], points[outside[-1] + 1]
    edge = high if y > high else low
    return [(x + (next_x - x) * (edge - y) / (next_y - y), edge), *points[outside[-1] + 1 :]]


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / wanted))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= wanted), 10)
    ticks = [math.ceil(low / step) * step + i * step for i in range(wanted * 3)]
    return [round(tick, 12) for tick in ticks if tick <= high + 1e-9 * span]


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def thin(points: Sequence[tuple[int, float]], most: int = 60) -> Points:
    """At most ``most`` of ``points``, evenly, and the last one."""
    kept = (*points[: -1 : math.ceil(len(points) / most) or 1], *points[-1:])
    return [(float(x), _near(y)) for x, y in kept]


# a text on one line with no Markdown or HTML meaning left in it
TEMPLATES.filters["md"] = lambda text: printable(text, 300).translate(_NO_MARKDOWN)
TEMPLATES.globals |= {"version": harness.__version__, "pool_table": pool_table, "drawings": pool_drawings}
