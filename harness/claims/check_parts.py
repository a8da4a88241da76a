"""A figure and its parts in one breath: "15,859,538 bytes (code: 58,672 + model: 15,800,866)", steps times tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.claims.claim import Claim, failed, passed
from harness.claims.document import Document, Line
from harness.claims.quantity import NUMBER, UNIT, Quantity, read_quantities

NEAR = 0.2
"""Parts that miss the figure by more than this are no parts of it."""
SMALLEST_COUNT = 1000
_SUM = re.compile(rf"(?<![\w.#])(~?\s?{NUMBER}\s?(?:{UNIT})?)[\s`*]*\(([^()+]*\+[^()]*)\)", re.IGNORECASE)
_TOKENS = re.compile(
    rf"(?<![\w.])(?P<about>~|≈)?\s?(?P<number>{NUMBER})\s?(?P<scale>B|billion|M|million)?\s+(?:train(?:ing)? )?tokens"
    rf"[^()\d]{{0,30}}\((?P<steps>{NUMBER}) steps?\s*[x×*·]\s*(?P<batch>{NUMBER})[^()]*\)",
    re.IGNORECASE,
)
_SCALES = {"": 1.0, "m": 1e6, "million": 1e6, "b": 1e9, "billion": 1e9}


def check_parts(document: Document) -> Iterator[Claim]:
    """Sums and products that a line spells out in parentheses."""
    for line in document.every_line:
        for match in _SUM.finditer(line.text):
            yield from _sum(line, match[0], read_quantities(match[1])[0], match[2])
        for match in _TOKENS.finditer(line.text):
            yield _product(line, match)


def _sum(line: Line, words: str, total: Quantity, inside: str) -> Iterator[Claim]:
    found = [read_quantities(part) for part in inside.split("+")]
    if any(len(part) != 1 for part in found) or not (total.kind or (total.whole and total.value >= SMALLEST_COUNT)):
        return
    parts = [part[0] for part in found]
    if any(part.kind not in ("", total.kind) or (total.unit != part.unit and not part.whole) for part in parts):
        return
    low, high = sum(part.low for part in parts), sum(part.high for part in parts)
    if all(part.whole for part in parts) and total.whole:
        low = high = (low + high) / 2
    middle = (low + high) / 2
    if abs(middle - total.value) > NEAR * abs(total.value):
        return
    right = total.like(middle)
    if total.admits(low, high):
        yield passed(line.number, words, "sum of its parts", f"the parts give {right}", total.text)
    else:
        yield failed(line.number, words, "sum of its parts", f"the parts give {right}", total.text, right)


def _product(line: Line, match: re.Match[str]) -> Claim:
    scale = _SCALES[(match["scale"] or "").lower()]
    claimed = read_quantities(f"{match['about'] or ''}{match['number']}")[0]
    steps, batch = (read_quantities(match[name])[0].value for name in ("steps", "batch"))
    right, text = steps * batch / scale, f"{match['number']}{match['scale'] or ''}"
    shown = f"{claimed.like(right).strip()}{match['scale'] or ''}"
    if claimed.admits(right, right):
        return passed(line.number, match[0], "tokens = steps × tokens a step", f"are {shown}", text)
    return failed(line.number, match[0], "tokens = steps × tokens a step", f"are {shown}", text, shown)
