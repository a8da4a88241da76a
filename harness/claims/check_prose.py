"""Claims in sentences: differences and improvements, seeds quoted again, caps and margins, one size in two units."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from harness.claims.check_differences import check_differences
from harness.claims.claim import Claim, disputed, failed, passed
from harness.claims.document import Document, Line
from harness.claims.quantity import NUMBER, SIGN, UNIT, Quantity, read_quantities

CAP_BYTES = 16_000_000
_TWICE = re.compile(
    rf"(?<![\w.#])(~?\s?{NUMBER}\s?[`*]*{UNIT})\s*[`*]*\(\s*(?:=|≈)?\s*(~?\s?{NUMBER}\s?{UNIT})\s*\)", re.IGNORECASE
)
_ARROW = re.compile(
    rf"({NUMBER})\s*(?:bpb|nats)?\s*(?:→|->|to)\s*({NUMBER})\s*(?:bpb|nats)?\s*\(\s*({SIGN}{NUMBER})\s*(mBPB|bpb|nats|%)?\s*\)",
    re.IGNORECASE,
)
_SEED_PAREN = re.compile(r"\bseed[\s=]*(\d{1,10})\b\s*\(([^()]*)\)", re.IGNORECASE)
_FITS = re.compile(
    r"\b(?:fits?|under|below|within|clear|stay\w*)\b[^.;|]{0,40}?(?:≤|<=|<)?\s*(?:the )?(?:16\s?MB|16,000,000)",
    re.IGNORECASE,
)
_MARGIN = re.compile(rf"margins?\W{{0,3}}\s*({NUMBER})\s*(?:[-–−]|to)\s*({NUMBER})\s*bytes", re.IGNORECASE)
_BEAT_ALL = re.compile(
    r"\b(?:all|each|every)\b[^.;]{0,40}\b(?:seeds?|runs?)\b[^.;]{0,30}\bbeats?\b[^.;]{0,20}#(\d+)", re.I
)

_QUOTED = re.compile(rf"#(\d+)\b[^\d#]{{0,12}}({NUMBER})")


def check_prose(document: Document) -> Iterator[Claim]:
    """Everything that sentences claim about the numbers of the text."""
    yield from check_differences(document)
    for line in document.every_line:
        yield from _two_units(line)
        yield from _arrows(line)
    quoted = _quoted_scores(document)
    for line in document.lines:
        yield from _seed_again(document, line)
        yield from _caps(document, line)
        yield from _all_beat(document, line, quoted)


def _two_units(line: Line) -> Iterator[Claim]:
    """ "15,878,809 bytes (15.1 MB)": the same size twice, so both must agree; MB are 10^6, MiB 2^20 bytes."""
    for match in _TWICE.finditer(line.text):
        first, second = read_quantities(match[1])[0], read_quantities(match[2])[0]
        if not first.kind or first.kind != second.kind or first.unit == second.unit:
            continue
        what = f"{first.text} in {second.unit}"
        right = second.like(first.value)
        low, high = (first.value, first.value) if first.whole else (first.low, first.high)
        if second.admits(low, high):
            yield passed(line.number, match[0], what, f"is {right}", second.text)
        elif second.unit.lower() in ("kb", "mb", "gb") and _as_binary(second).admits(low, high):
            binary = second.unit[0] + "i" + second.unit[1:]
            text = f"{second.text} are {binary}; in decimal units, in which the cap is stated, it is {right}"
            yield disputed(line.number, match[0], what, text, second.text, right)
        else:
            yield failed(line.number, match[0], what, f"{first.text} are {right}", second.text, right)


def _as_binary(quantity: Quantity) -> Quantity:
    ratio = {"k": 1.024, "m": 1.024**2, "g": 1.024**3}[quantity.unit.lower()[0]]
    return dataclasses.replace(quantity, value=quantity.value * ratio, half=quantity.half * ratio)


def _arrows(line: Line) -> Iterator[Claim]:
    """ "1.2172 → 1.1925 (-0.0247)" and "(-2.0%)"."""
    for match in _ARROW.finditer(line.text):
        old, new = read_quantities(match[1])[0], read_quantities(match[2])[0]
        claimed = read_quantities(f"{match[3]} {match[4] or ''}".strip())[0]
        low, high = new.low - old.high, new.high - old.low
        if claimed.unit == "%":
            if not old.low > 0:
                continue
            low, high = 100 * (new.low / old.high - 1), 100 * (new.high / old.low - 1)
        if low + high < 0 < claimed.value or claimed.value < 0 < low + high:
            low, high = -high, -low
        right = claimed.like((low + high) / 2)
        if claimed.admits(low, high):
            yield passed(line.number, match[0], "difference", f"is {right}", claimed.text)
        else:
            yield failed(line.number, match[0], "difference", f"is {right}", claimed.text, right)


def _seed_again(document: Document, line: Line) -> Iterator[Claim]:
    """ "seed 1337 (1.1441, 15,930,191 B)": quoted from that seed's row."""
    for match in _SEED_PAREN.finditer(line.text):
        seed = int(match[1])
        for quantity in read_quantities(match[2]):
            near = [
                (column, value)
                for column, value in document.values_by_seed.get(seed, ())
                if abs(value.value - quantity.value) <= 0.01 * abs(value.value)
                and (not quantity.kind or quantity.kind == column.kind)
            ]
            if not near or (quantity.step >= 1 and not quantity.kind and "," not in quantity.text):
                continue
            what = f"seed {seed} quoted again"
            if any(quantity.admits(value.low, value.high) for _, value in near):
                yield passed(line.number, match[0], what, "as in the table", quantity.text)
            else:
                column, value = min(near, key=lambda pair: abs(pair[1].value - quantity.value))
                text = f"{column.name} of seed {seed} is {value.text}"
                yield failed(line.number, match[0], what, text, quantity.text, value.text)


def _caps(document: Document, line: Line) -> Iterator[Claim]:
    match, margin = _FITS.search(line.text), _MARGIN.search(line.text)
    if not match and not margin:
        return
    whole = [column for column in document.of_kind("bytes") if not re.search(r"\bcode\b", column.name, re.IGNORECASE)]
    sizes = [value for column in whole for value in column.values]
    if not sizes:
        return
    worst = max(size.value for size in sizes)
    if match and re.search(r"\b(?:all|every|each|seeds?|artifacts?|submission)\b", line.text, re.IGNORECASE):
        what, text = "every seed under the cap", f"the largest has {worst:,.0f} bytes"
        if worst <= CAP_BYTES:
            yield passed(line.number, match[0], what, text)
        else:
            yield failed(line.number, match[0], what, text, "fits", f"{worst - CAP_BYTES:,.0f} bytes over")
    if margin:
        given = [read_quantities(margin[1])[0].value, read_quantities(margin[2])[0].value]
        right = [CAP_BYTES - worst, CAP_BYTES - min(size.value for size in sizes)]
        shown = f"{right[0]:,.0f} to {right[1]:,.0f} bytes"
        if sorted(given) == right:
            yield passed(line.number, margin[0], "margins to the cap", f"are {shown}")
        else:
            yield failed(line.number, margin[0], "margins to the cap", f"are {shown}", margin[0], shown)


def _quoted_scores(document: Document) -> dict[str, Quantity]:
    """Number of another submission -> the first score that stands behind it."""
    found: dict[str, Quantity] = {}
    for line in document.lines:
        for match in _QUOTED.finditer(line.text):
            found.setdefault(match[1], read_quantities(match[2])[0])
    return found


def _all_beat(document: Document, line: Line, quoted: dict[str, Quantity]) -> Iterator[Claim]:
    match = _BEAT_ALL.search(line.text)
    column = document.final_column("bpb")
    score = quoted.get(match[1]) if match else None
    if not match or column is None or score is None:
        return
    worst = max(column.values, key=lambda value: value.value)
    text = f"the worst seed has {worst.text}, #{match[1]} has {score.text}"
    if worst.value < score.value:
        yield passed(line.number, match[0], "every seed beats it", text)
    else:
        yield failed(line.number, match[0], "every seed beats it", text, "beats", worst.text)
