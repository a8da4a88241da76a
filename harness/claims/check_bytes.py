"""Totals of bytes: code + model = submission, as logs and READMEs list them one a line or one a table row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from harness.claims.claim import Claim, failed, passed
from harness.claims.document import Document
from harness.claims.quantity import Quantity, read_one, read_quantities
from harness.claims.tables import plain

WINDOW_LINES = 8
_LABELS = {
    "code": re.compile(r"\bcode size\b|\bcode bytes\b|\bbytes_code\b|^code\b", re.IGNORECASE),
    "model": re.compile(r"compressed (?:artifact|model)|serialized model|model bytes|\bmodel\.bin|^model\b", re.I),
    "total": re.compile(r"total submission|submission size|bytes_total|^total\b", re.IGNORECASE),
}


@dataclass(frozen=True)
class _Entry:
    line: int
    label: str
    kind: str
    value: Quantity


def check_bytes(document: Document) -> Iterator[Claim]:
    """Each stated total of bytes whose code and model stand close by; further parts may stand there too."""
    entries = {entry.line: entry for entry in _entries(document)}
    for total in (entry for entry in entries.values() if entry.kind == "total"):
        window = range(total.line - WINDOW_LINES, total.line + WINDOW_LINES + 1)
        near = [entries[number] for number in window if number in entries]
        models = [entry for entry in near if entry.kind == "model"]
        codes = [entry for entry in near if entry.kind == "code"]
        if len(codes) != 1 or not models:
            continue
        sums = [(model.value.value + codes[0].value.value, model) for model in models]
        right, _ = min(sums, key=lambda pair: abs(pair[0] - total.value.value))
        if abs(right - total.value.value) > 0.05 * total.value.value:
            continue
        what, text = "total = code + model", f"code + model = {right:,.0f} bytes"
        if right == total.value.value:
            yield passed(total.line, total.label, what, text, total.value.text)
        elif more := _further_parts(total.value.value - right, [entry for entry in near if entry.kind == "other"]):
            names = " + ".join(entry.label.split(":")[0].strip() for entry in more)
            yield passed(total.line, total.label, what, f"with {names} it is {total.value.text}", total.value.text)
        else:
            yield failed(total.line, total.label, what, text, total.value.text, f"{right:,.0f}")


def _further_parts(missing: float, others: list[_Entry]) -> tuple[_Entry, ...]:
    """One to three further sizes listed close by that make up what code and model leave, to the byte."""
    chosen = (group for n in (1, 2, 3) for group in combinations(others, n))
    return next((group for group in chosen if sum(entry.value.value for entry in group) == missing), ())


def _entries(document: Document) -> Iterator[_Entry]:
    for number, raw in enumerate(document.raw, 1):
        cells = [plain(cell) for cell in raw.strip().strip("|").split("|")]
        if len(cells) == 2 and (value := read_one(cells[1])):
            label = cells[0]
        else:
            label = re.sub(r"^[-*\s]+", "", plain(raw))
            values = [q for q in read_quantities(label) if q.whole and q.value >= 1000]
            if len(values) != 1:
                continue
            value = values[0]
        kind = next((kind for kind, pattern in _LABELS.items() if pattern.search(label.split(":")[0])), "other")
        if value.whole:
            yield _Entry(number, label, kind, value)
