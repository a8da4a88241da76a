"""Claims in sentences: differences and improvements, seeds quoted again, caps and margins, one size in two units."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import combinations

from harness.claims.claim import Claim, disputed, failed, passed, unknown
from harness.claims.document import Document, Line, quote
from harness.claims.quantity import NUMBER, SIGN, UNIT, Quantity, read_quantities

CAP_BYTES = 16_000_000
_GAIN = re.compile(r"improve|improvement|beats?\b|better|gain|regress|lower|worse|delta|Δ|drop|reduc", re.IGNORECASE)
_TOWARDS = re.compile(r"improve|improvement|beats?\b|better than|gain over|delta|Δ", re.IGNORECASE)
_OVER_SEEDS = re.compile(r"\b(?:mean|average)\b", re.IGNORECASE)
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


def check_prose(document: Document) -> Iterator[Claim]:
    """Everything that sentences claim about the numbers of the text."""
    for paragraph in document.paragraphs:
        yield from _differences(document, paragraph)
    for line in document.every_line:
        yield from _two_units(line)
        yield from _arrows(line)
    for line in document.lines:
        yield from _seed_again(document, line)
        yield from _caps(document, line)
        yield from _all_beat(document, line)


def _differences(document: Document, paragraph: list[Line]) -> Iterator[Claim]:
    text = " ".join(line.text for line in paragraph)
    for line in paragraph:
        for quantity in line.quantities:
            if _is_difference(line, quantity):
                yield from _difference(document, line, quantity, text)


def _is_difference(line: Line, quantity: Quantity) -> bool:
    around = line.text[max(0, quantity.start - 40) : quantity.end + 40]
    if quantity.kind not in ("bpb", "nats") or "±" in line.text[max(0, quantity.start - 3) : quantity.start + 1]:
        return False
    small = abs(quantity.value) < 0.2
    return small and (quantity.signed or quantity.unit.lower() == "mbpb" or bool(_GAIN.search(around)))


def _difference(document: Document, line: Line, claimed: Quantity, text: str) -> Iterator[Claim]:
    here = quote(line.text, claimed)
    around = line.text[max(0, claimed.start - 25) : claimed.end + 35]
    rivals = re.search(r"\b(?:vs\.?|versus|than|against|over PR)\b|#\d", line.text[claimed.end : claimed.end + 60])
    if not rivals and (_OVER_SEEDS.search(around) or re.search(r"\bacross \d+ seeds", around)):
        yield from _mean_difference(document, line, claimed, here)
        return
    foreign = _foreign_scores(document, text, claimed.kind)
    elsewhere = [] if claimed.kind != "bpb" else _scores_of_others(document)
    own = [(c.mean.low, c.mean.high, f"mean of {c.name}") for c in document.of_kind(claimed.kind)]
    size = _magnitude(claimed)
    for score in [*foreign, *elsewhere]:
        for low, high, name in own:
            span = _gap(score, low, high)
            if size.admits(*span):
                message = f"{name} against {score.text.strip()} gives {size.like(sum(span) / 2)}"
                yield passed(line.number, here, "difference", message, claimed.text)
                return
    pair = _pair_in_text(foreign, size)
    if pair:
        message = f"{pair[0].text.strip()} against {pair[1].text.strip()} gives it"
        yield passed(line.number, here, "difference", message, claimed.text)
        return
    forced = _must_be(document, line, claimed, text)
    if forced is not None:
        low, high, words = forced
        right = size.like((low + high) / 2)
        message = f"{words} gives {right}"
        if size.admits(low, high):
            yield passed(line.number, here, "difference", message, claimed.text)
        else:
            yield failed(line.number, here, "difference", message, claimed.text, right)
        return
    yield unknown(line.number, here, "difference", "what it is taken between is not in this text", claimed.text)


def _must_be(document: Document, line: Line, claimed: Quantity, text: str) -> tuple[float, float, str] | None:
    """The range that a difference must lie in, and between what, where the words leave no choice; else ``None``."""
    before, after = line.text[: claimed.start], line.text[claimed.end :]
    scores = [q for q in read_quantities(text) if q.kind == claimed.kind and q.value > 0.3 and not q.signed]
    fine = [score for score in scores if score.step <= claimed.step * 1.5]
    if len(fine) == 2 and re.search(
        r"(?:delta|difference|Δ)\W*(?:[-−\d.]+ (?:nats|bpb) ?\(?)?$", before, re.IGNORECASE
    ):
        return (*_gap(fine[0], fine[1].low, fine[1].high), f"{fine[0].text.strip()} against {fine[1].text.strip()}")
    headline = document.final_column(claimed.kind)
    rival = _rival(document, before, after, text, claimed)
    if headline is None or rival is None:
        return None
    words = f"{rival.text.strip()} against the mean of {headline.name}"
    return (*_gap(rival, headline.mean.low, headline.mean.high), words)


def _rival(document: Document, before: str, after: str, text: str, claimed: Quantity) -> Quantity | None:
    """The other submission's score that a difference in bpb is taken against."""
    if claimed.kind != "bpb":
        return None
    behind = re.search(rf"\(({NUMBER})[^()]*\)\s*by\s*$", before)
    ahead = re.match(rf"[^.;]{{0,60}}?\b(?:vs\.?|over|against|than)\s+PR #\d+\)?\s*\(({NUMBER})", after, re.IGNORECASE)
    if behind or ahead:
        found = read_quantities((behind or ahead)[1])  # type: ignore[index]
        return found[0] if 0.3 < found[0].value < 10 else None
    around = before[-25:] + after[:35]
    scores = _foreign_scores(document, text, "bpb") or _scores_of_others(document)
    different = {score.value: score for score in scores}
    return scores[0] if _TOWARDS.search(around) and len(different) == 1 else None


def _mean_difference(document: Document, line: Line, claimed: Quantity, here: str) -> Iterator[Claim]:
    """ "mean +0.7 mBPB across 3 seeds": the difference between the means of two columns of one table."""
    nearest: tuple[float, str, float] | None = None
    size = _magnitude(claimed)
    for a, b in combinations(document.of_kind(claimed.kind), 2):
        if a.table is not b.table:
            continue
        low = a.mean.low - b.mean.high
        high = a.mean.high - b.mean.low
        middle = abs(a.mean.value - b.mean.value)
        low, high = (low, high) if a.mean.value >= b.mean.value else (-high, -low)
        if size.admits(max(low, 0.0), high):
            message = f"means of {a.name} and {b.name} differ by {size.like(middle)} as printed"
            yield passed(line.number, here, "difference of means", message, claimed.text)
            return
        if nearest is None or abs(middle - size.value) < abs(nearest[0] - size.value):
            nearest = middle, f"{a.name} and {b.name}", middle
    if nearest is None:
        yield unknown(line.number, here, "difference of means", "no two columns of seeds give it", claimed.text)
    else:
        right = size.like(nearest[2])
        message = f"the means of {nearest[1]} differ by {right}"
        yield failed(line.number, here, "difference of means", message, claimed.text, right)


def _foreign_scores(document: Document, text: str, kind: str) -> list[Quantity]:
    """Absolute scores in the words of a paragraph, without those that are the text's own means or seeds."""
    found: dict[str, Quantity] = {}
    for quantity in read_quantities(text):
        bare = not quantity.kind and quantity.step < 2e-3
        fits = 0.3 < quantity.value < 10 and not quantity.signed and quantity.step < 2e-2
        if fits and (quantity.kind == kind or bare) and not _is_own(document, quantity, kind):
            found.setdefault(quantity.text.split()[0], quantity)
    return list(found.values())


def _scores_of_others(document: Document) -> list[Quantity]:
    """Scores that stand right behind the number of another submission: "#1644 (1.1473 bpb)"."""
    found = (
        re.search(rf"#\d+\)?\W{{0,4}}({NUMBER})(?:\s?bpb)?\)", line.text, re.IGNORECASE) for line in document.lines
    )
    scores = [read_quantities(match[1])[0] for match in found if match]
    return [score for score in scores if 0.3 < score.value < 10 and score.step < 2e-3]


def _is_own(document: Document, quantity: Quantity, kind: str) -> bool:
    return any(
        quantity.admits(c.mean.low, c.mean.high) or any(quantity.admits(v.low, v.high) for v in c.values)
        for c in document.of_kind(kind)
    )


def _pair_in_text(scores: list[Quantity], size: Quantity) -> tuple[Quantity, Quantity] | None:
    for a, b in combinations(scores, 2):
        if size.admits(*_gap(a, b.low, b.high)):
            return a, b
    return None


def _gap(score: Quantity, low: float, high: float) -> tuple[float, float]:
    first, last = score.low - high, score.high - low
    return (first, last) if first + last >= 0 else (-last, -first)


def _magnitude(quantity: Quantity) -> Quantity:
    return dataclasses.replace(quantity, value=abs(quantity.value), signed=False)


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
                for column in document.columns
                for row, value in zip(column.table.seed_rows, column.values, strict=True)
                if row.seed == seed and abs(value.value - quantity.value) <= 0.01 * abs(value.value)
                and (not quantity.kind or quantity.kind == column.kind)
            ]  # fmt: skip
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
    whole = [column for column in document.of_kind("bytes") if not re.search(r"\bcode\b", column.name, re.IGNORECASE)]
    sizes = [value for column in whole for value in column.values]
    if not sizes:
        return
    worst = max(size.value for size in sizes)
    match = _FITS.search(line.text)
    if match and re.search(r"\b(?:all|every|each|seeds?|artifacts?|submission)\b", line.text, re.IGNORECASE):
        what, text = "every seed under the cap", f"the largest has {worst:,.0f} bytes"
        if worst <= CAP_BYTES:
            yield passed(line.number, match[0], what, text)
        else:
            yield failed(line.number, match[0], what, text, "fits", f"{worst - CAP_BYTES:,.0f} bytes over")
    margin = _MARGIN.search(line.text)
    if margin:
        given = [read_quantities(margin[1])[0].value, read_quantities(margin[2])[0].value]
        right = [CAP_BYTES - worst, CAP_BYTES - min(size.value for size in sizes)]
        shown = f"{right[0]:,.0f} to {right[1]:,.0f} bytes"
        if sorted(given) == right:
            yield passed(line.number, margin[0], "margins to the cap", f"are {shown}")
        else:
            yield failed(line.number, margin[0], "margins to the cap", f"are {shown}", margin[0], shown)


def _all_beat(document: Document, line: Line) -> Iterator[Claim]:
    match = _BEAT_ALL.search(line.text)
    column = document.final_column("bpb")
    if not match or column is None:
        return
    rival = re.compile(rf"#{match[1]}\b[^\d#]{{0,12}}({NUMBER})")
    quoted = [m for other in document.lines if (m := rival.search(other.text))]
    if not quoted:
        return
    score = read_quantities(quoted[0][1])[0]
    worst = max(column.values, key=lambda value: value.value)
    text = f"the worst seed has {worst.text}, #{match[1]} has {score.text}"
    if worst.value < score.value:
        yield passed(line.number, match[0], "every seed beats it", text)
    else:
        yield failed(line.number, match[0], "every seed beats it", text, "beats", worst.text)
