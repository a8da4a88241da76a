"""Best and worst seeds, their spread, and how much of the cap is used or left."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from harness.claims.check_headlines import NEAR
from harness.claims.claim import Claim, failed, passed
from harness.claims.document import OTHERS, Column, Document, Line, quote
from harness.claims.quantity import NUMBER, UNIT, Quantity, read_quantities

CAP_BYTES = 16_000_000
_EXTREME = re.compile(
    rf"\b(best|lowest|smallest|worst|highest|largest|max(?:imum)?|min(?:imum)?)\b(?: (?:single )?(?:seed|run|artifact|"
    rf"size|bpb|val_bpb|score|submission))*(?: is| has| at|:|=)[\s*`~]*({NUMBER}\s?(?:{UNIT})?)",
    re.IGNORECASE,
)
_BEHIND = re.compile(rf"({NUMBER}\s?(?:bytes|B|MB))\s+(max(?:imum)?|min(?:imum)?|worst|largest)\b", re.IGNORECASE)
_SPREAD = re.compile(
    rf"\b(?:spread|range|max\s*[-−]\s*min)\b(?: (?:of|is|across|over|seeds|\d))*[:=\s*`]*({NUMBER}\s?(?:mBPB|bpb))",
    re.IGNORECASE,
)
_LEFT = re.compile(
    rf"(?:headroom|to spare|left)\W{{0,3}}({NUMBER}) bytes|({NUMBER}) bytes (?:of headroom|to spare|left|"
    r"(?:under|below) the (?:cap|limit|budget))",
    re.IGNORECASE,
)
_SHARE = re.compile(rf"({NUMBER})\s?% of (?:the )?(?:16\s?MB |16,000,000[- ]byte )?(?:cap|limit|budget)", re.IGNORECASE)
_LOWEST = ("best", "lowest", "smallest", "min", "minimum")


def check_extremes(document: Document) -> Iterator[Claim]:
    """Claims about the ends of the seeds' range and about the cap."""
    sizes = [column for column in document.of_kind("bytes") if not re.search(r"\bcode\b", column.name, re.IGNORECASE)]
    for line in document.lines:
        for match in _EXTREME.finditer(line.text):
            yield from _extreme(document, line, match[0], match[1], read_quantities(match[2])[0])
        for match in _BEHIND.finditer(line.text):
            yield from _extreme(document, line, match[0], match[2], read_quantities(match[1])[0])
        for match in _SPREAD.finditer(line.text):
            yield from _spread(document, line, match[0], read_quantities(match[1])[0])
        if sizes:
            yield from _cap(line, sizes)


def _extreme(document: Document, line: Line, words: str, which: str, claimed: Quantity) -> Iterator[Claim]:
    before = line.text[: line.text.index(words)]
    if OTHERS.search(before[-40:]):
        return
    kind = claimed.kind or ("bpb" if claimed.step < 1e-2 and 0.3 < claimed.value < 10 else "bytes")
    lowest = which.lower() in _LOWEST
    ends = [
        (column, min(column.values, key=_value) if lowest else max(column.values, key=_value))
        for column in document.of_kind(kind)
        if abs(column.mean.value - claimed.value) <= NEAR * abs(column.mean.value)
    ]
    if not ends:
        return
    claimed = dataclasses.replace(claimed, kind=kind)
    what = f"{which.lower()} of {ends[-1][0].name}"
    if any(claimed.admits(end.low, end.high) for _, end in ends):
        yield passed(line.number, words, what, "as in the table", claimed.text)
    else:
        column, end = min(ends, key=lambda pair: abs(pair[1].value - claimed.value))
        right = claimed.like(end.value)
        text = f"the {which.lower()} of {column.name} is {end.text}"
        yield failed(line.number, words, f"{which.lower()} of {column.name}", text, claimed.text, right)


def _value(quantity: Quantity) -> float:
    return quantity.value


def _spread(document: Document, line: Line, words: str, claimed: Quantity) -> Iterator[Claim]:
    found = []
    for column in document.of_kind("bpb"):
        least, most = min(column.values, key=_value), max(column.values, key=_value)
        found.append((column, most.low - least.high, most.high - least.low))
    if not found:
        return
    if any(claimed.admits(low, high) for _, low, high in found):
        yield passed(line.number, words, "spread of the seeds", "as in the table", claimed.text)
    else:
        column, low, high = min(found, key=lambda item: abs((item[1] + item[2]) / 2 - claimed.value))
        right = claimed.like((low + high) / 2)
        text = f"{column.name} spans {right}"
        yield failed(line.number, words, "spread of the seeds", text, claimed.text, right)


def _cap(line: Line, sizes: list[Column]) -> Iterator[Claim]:
    values = [value.value for column in sizes for value in column.values]
    worst = max(values)
    candidates = [*values, *(column.mean.value for column in sizes)]
    for match in _LEFT.finditer(line.text):
        claimed = read_quantities(match[1] or match[2])[0]
        right = claimed.like(CAP_BYTES - worst)
        if any(claimed.admits(CAP_BYTES - size, CAP_BYTES - size) for size in candidates):
            yield passed(line.number, match[0], "room under the cap", f"the worst seed leaves {right}", claimed.text)
        elif claimed.value < 0.2 * CAP_BYTES:
            text = f"the worst seed leaves {right} bytes"
            yield failed(line.number, match[0], "room under the cap", text, claimed.text, right)
    for match in _SHARE.finditer(line.text):
        claimed = read_quantities(match[1])[0]
        right = claimed.like(100 * worst / CAP_BYTES)
        here = quote(line.text) if len(line.text) < 80 else match[0]
        if any(claimed.admits(100 * size / CAP_BYTES, 100 * size / CAP_BYTES) for size in candidates):
            yield passed(line.number, here, "share of the cap", f"the worst seed uses {right} %", claimed.text)
        elif claimed.value > 80:
            text = f"the worst seed uses {right} %"
            yield failed(line.number, here, "share of the cap", text, claimed.text, right)
