"""Small drawings as SVG text: bars, lines, a timeline, dots with an interval. No script, no font, no outside address.

Colours are CSS classes of the page, so the drawings follow light and dark mode. Every drawing carries a title and a
description for those who do not see it; all text is made printable and escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import count, pairwise

from harness.text import printable

WIDTH, MARGIN = 420.0, 4.0
_numbers = count(1)


def drawing(body: Sequence[str], height: float, title: str, text: str) -> str:
    """An accessible ``<svg>``; ``title`` names it, ``text`` tells what it shows."""
    name = f"drawing-{next(_numbers)}"
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{name}-t">{_words(title)}</title>'
        f'<desc id="{name}-d">{_words(text)}</desc>{"".join(body)}</svg>'
    )


def _words(text: str) -> str:
    return escape(printable(text, 2000))


def text_at(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "label") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{_words(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A filled box."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" class="{kind}"/>'


def stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def waterfall(stages: Sequence[tuple[str, float]], title: str) -> str:
    """bpb at each stage as bars from a common base line, with the step between neighbours."""
    values = [value for _, value in stages]
    low, high = min(values), max(values)
    base = low - max(high - low, 0.02 * high) * 0.6
    room = WIDTH - 2 * MARGIN - 60
    body, y = [], 6.0
    for index, (words, value) in enumerate(stages):
        step = "" if index == 0 else f"  {value - values[index - 1]:+.4f}"
        body.append(text_at(MARGIN, y + 12, f"{words}{step}"))
        width = room * (value - base) / (high - base)
        body.append(rectangle(MARGIN, y + 18, width, 20, "bar final" if index == len(stages) - 1 else "bar"))
        body.append(text_at(MARGIN + width + 6, y + 33, f"{value:.4f}", kind="value"))
        y += 50
    body.append(text_at(MARGIN, y + 8, f"bits per byte, bars start at {base:.3f}; lower is better", kind="note"))
    words = "; ".join(f"{name}: {value:.4f} bpb" for name, value in stages)
    return drawing(body, y + 16, title, words)


def curve(points: Sequence[tuple[float, float]], title: str, x_name: str, y_name: str) -> str:
    """A line through ``points``; at least one. The vertical range is that of the last nine tenths: a steeper beginning
    enters from the edge, and the note says where it began."""
    left, top, right, bottom = 58.0, 12.0, WIDTH - MARGIN, 190.0
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    settled = sorted(ys[len(ys) // 10 :])
    low, high = settled[0], settled[-1]
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    first, last = xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1

    def place(x: float, y: float) -> tuple[float, float]:
        part = (y - low) / (high - low)
        return left + (right - left) * (x - first) / (last - first), bottom - (bottom - top) * part

    body = []
    for tick in _ticks(low, high):
        y = place(first, tick)[1]
        body += [stroke(left, y, right, y, "grid"), text_at(left - 6, y + 5, f"{tick:g}", anchor="end", kind="value")]
    for tick in _ticks(first, last, 4):
        x = place(tick, low)[0]
        anchor = "end" if x > right - 20 else "middle"
        body.append(text_at(x, bottom + 18, _short(tick), anchor=anchor, kind="value"))
    shown = _entering(points, low, high)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(x, y) for x, y in shown))
    body.append(f'<polyline points="{path}" class="curve"/>')
    ends = f"{ys[0]:.4f} to {ys[-1]:.4f}"
    body.append(text_at(MARGIN, bottom + 38, f"across {x_name}, up {y_name}; {ends}", kind="note"))
    words = f"{y_name} over {x_name}: from {ys[0]:.4f} at {xs[0]:,.0f} to {ys[-1]:.4f} at {xs[-1]:,.0f}"
    return drawing(body, bottom + 46, title, words)


def _entering(points: Sequence[tuple[float, float]], low: float, high: float) -> Sequence[tuple[float, float]]:
    """The points after the last one outside [low, high], and before them where the line crosses its edge."""
    outside = [i for i, (_, y) in enumerate(points) if not low <= y <= high]
    if not outside:
        return points
    (x, y), (next_x, next_y) = points[outside[-1]], points[outside[-1] + 1]
    edge = high if y > high else low
    return [(x + (next_x - x) * (edge - y) / (next_y - y), edge), *points[outside[-1] + 1 :]]


def timeline(spans: Sequence[tuple[str, float, float, float | None]], idle_s: float, title: str) -> str:
    """Spans (name, start, seconds, limit): a bar a span on one clock; its limit is the outline behind it.

    idle_s: seconds between the spans, told in words
    """
    end = max(start + max(seconds, limit or 0.0) for _, start, seconds, limit in spans)
    scale = (WIDTH - 2 * MARGIN) / end if end > 0 else 1.0
    body, y = [], 4.0
    for name, start, seconds, limit in spans:
        words = f"{name}: {seconds:.1f} s" + (f" of {limit:.0f} s" if limit is not None else "")
        body.append(text_at(MARGIN, y + 12, words))
        x = MARGIN + start * scale
        if limit is not None:
            body.append(rectangle(x, y + 17, limit * scale, 13, "limit"))
        over = limit is not None and seconds > limit
        body.append(rectangle(x, y + 17, seconds * scale, 13, "bar over" if over else "bar"))
        y += 37
    body.append(
        text_at(
            MARGIN,
            y + 10,
            f"one clock, 0 to {end:.0f} s, {idle_s:.1f} s idle between; outlines are limits",
            kind="note",
        )
    )
    words = "; ".join(f"{n}: {s:.1f} s" + (f" of {q:.0f} s" if q is not None else "") for n, _, s, q in spans)
    return drawing(body, y + 18, title, words)


def byte_bars(parts: Sequence[tuple[str, int]], total: int, cap: int, title: str) -> str:
    """Bytes by role, largest first, on the scale of the cap or of the largest part."""
    most = max([cap, *(size for _, size in parts)])
    room = WIDTH - 2 * MARGIN
    body = [text_at(MARGIN, 16, f"total {total:,} of {cap:,} bytes ({100 * total / max(cap, 1):.1f} %)")]
    body += [rectangle(MARGIN, 22, room * cap / most, 16, "limit")]
    body += [rectangle(MARGIN, 22, room * total / most, 16, "bar over" if total > cap else "bar final")]
    y, largest = 46.0, max([1, *(size for _, size in parts)])
    for name, size in parts:
        body.append(text_at(MARGIN, y + 12, f"{name}: {size:,} bytes"))
        body.append(rectangle(MARGIN, y + 17, room * size / largest, 13, "bar"))
        y += 37
    if len(parts) > 2:
        body.append(text_at(MARGIN, y + 10, "model sections: before its last compression", kind="note"))
        y += 14
    words = f"total {total:,} of {cap:,} bytes; " + "; ".join(f"{name} {size:,}" for name, size in parts)
    return drawing(body, y + 4, title, words)


def seed_dots(
    seeds: Sequence[tuple[int, float]], mean: float, low: float | None, high: float | None, title: str
) -> str:
    """bpb of each seed on one axis, the mean as a line and its interval as a band."""
    values = [value for _, value in seeds]
    first, last = min([*values, low if low is not None else mean]), max([*values, high if high is not None else mean])
    pad = max((last - first) * 0.08, 1e-6)
    first, last = first - pad, last + pad
    left, right = 84.0, WIDTH - 58

    def place(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    height = 26.0 * len(seeds)
    body = []
    if low is not None and high is not None:
        body.append(rectangle(place(low), 6, place(high) - place(low), height, "band"))
    body.append(stroke(place(mean), 6, place(mean), 6 + height, "mean"))
    for index, (seed, value) in enumerate(seeds):
        y = 6 + 26.0 * index + 13
        body += [
            text_at(MARGIN, y + 5, f"seed {seed}"[:14]),
            f'<circle cx="{place(value):.1f}" cy="{y:.1f}" r="5" class="dot"/>',
        ]
        body.append(text_at(WIDTH - 4, y + 5, f"{value:.4f}", anchor="end", kind="value"))
    interval = "" if low is None or high is None else f"; 95 % interval of the mean {low:.4f} to {high:.4f}"
    body.append(text_at(MARGIN, height + 28, f"mean {mean:.4f} bpb{interval}", kind="note"))
    words = "; ".join(f"seed {seed}: {value:.4f} bpb" for seed, value in seeds) + f"; mean {mean:.4f}{interval}"
    return drawing(body, height + 36, title, words)


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


def thin(points: Sequence[tuple[int, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most ``most`` of ``points``, evenly, with the first and the last."""
    if len(points) <= most:
        return [(float(x), y) for x, y in points]
    places = [round(i * (len(points) - 1) / (most - 1)) for i in range(most)]
    return [(float(points[a][0]), points[a][1]) for a, b in pairwise([*places, places[-1] + 1]) if a != b]
