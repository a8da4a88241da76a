"""Headline figures: "1.1456 bpb (3-seed mean, std 0.0011) | 15.93 MB total (3-seed mean)", "1.1456 ± 0.0011"."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

from harness.claims.claim import Claim, disputed, failed, passed, unknown
from harness.claims.document import OTHERS, Column, Document, Line, quote
from harness.claims.judge import judge_mean, judge_std
from harness.claims.quantity import NUMBER, Quantity, read_quantities
from harness.claims.spread import mean_of

NEAR = 0.05
"""A claimed mean within 5 % of a column of seeds is about that column; one further off is about something else."""
SMALLEST_SCORE = 0.2
"""Below it a number of bpb or nats is a difference and no score."""
NEARBY = 200
"""Characters before a number that may say what it is; the words looked for stand within 70."""
_COUNTED = re.compile(
    r"(?P<n>\d+)[- ]seeds?\b[^)|;]*?\b(?:mean|avg|average)\b"
    r"|\b(?:mean|average) (?:of|over|across) (?:all |the )?(?P<m>\d+|two|three|four|five|six|seven) (?:seeds|runs)",
    re.IGNORECASE,
)
_PLAIN_MEAN = re.compile(r"\b(?:mean|average|avg)\b", re.IGNORECASE)
_PAREN = re.compile(r"^\s*(?:BPB|nats|bytes)?\s*(?:[A-Za-z+-]+\s){0,2}?(?:[A-Za-z+-]+\s*)?\((?P<inside>[^()]*)\)",
                    re.IGNORECASE)  # fmt: skip
_MEAN_BEFORE = re.compile(r"\b(?:mean|average|avg)(?:\b|_)[^.;|/\d]{0,45}$", re.IGNORECASE)
_MEAN_AFTER = re.compile(r"^[\s*`]*(?:mean|average|avg)\b(?! of (?:the )?(?:best|lowest))", re.IGNORECASE)
_STD = re.compile(
    r"\b(?:sample |population |pop\.? )?(?:std|stdev|stddev|std\.? dev|sd|standard deviation|σ)\b(?: is| of)?"
    rf"[\s:=*`~]*({NUMBER})\s*(mBPB|bytes|KiB|MiB|KB|MB|bpb|nats|B(?!\w))?",
    re.IGNORECASE,
)
_PLUS_MINUS = re.compile(rf"(?:±|\+/-)\s*({NUMBER})\s*(mBPB|bytes|KiB|MiB|KB|MB|bpb|nats|B(?!\w))?", re.IGNORECASE)
_STD_ALONE = re.compile(rf"^\W*(?:[A-Za-z_]+ )?{_STD.pattern}\W*$", re.IGNORECASE)
_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}


def check_headlines(document: Document) -> Iterator[Claim]:
    """Figures in prose that speak for several seeds, and headline sizes."""
    for line in document.lines:
        yield from _std_alone(document, line)
        previous_end = 0
        for quantity in line.quantities:
            before, after = line.text[previous_end : quantity.start], line.text[quantity.end :]
            previous_end = quantity.end
            yield from _judge(document, line, quantity, line.text[max(0, quantity.start - NEARBY) : quantity.start],
                              before, after)  # fmt: skip


def _judge(
    document: Document, line: Line, quantity: Quantity, all_before: str, before: str, after: str
) -> Iterator[Claim]:
    kind = quantity.kind or _kind_from_words(quantity, before, after)
    is_score = kind in ("bpb", "nats") and quantity.value >= SMALLEST_SCORE
    if not (is_score or kind == "bytes") or quantity.signed:
        return
    claimed = dataclasses.replace(quantity, kind=kind)
    paren = _PAREN.match(after)
    inside = paren["inside"] if paren else ""
    attached = f"{inside} {_PLUS_MINUS.match(after.strip()) or ''}"
    is_mean = bool(_PLAIN_MEAN.search(inside) or _MEAN_BEFORE.search(all_before[-60:]) or _MEAN_AFTER.match(after))
    if re.search(r"interval|\bCI\b|range", all_before[-60:], re.IGNORECASE):
        return
    spread = _spread(after, inside)
    if not is_mean and spread is None:
        if kind == "bytes":
            yield from _headline_size(document, line, claimed, before, after)
        return
    here = quote(line.text, quantity)
    if _about_others(all_before):
        yield unknown(line.number, here, "mean of another submission", "its seeds are not in this text", claimed.text)
        return
    column = _column(document, claimed, all_before[-50:])
    if column is None:
        what = f"mean {_label(kind)} over seeds"
        yield unknown(line.number, here, what, "no table of seeds in this text gives it", claimed.text)
        return
    yield from _against_column(line, claimed, column, spread, here, attached, before + after)


def _against_column(
    line: Line, claimed: Quantity, column: Column, spread: Quantity | None, here: str, attached: str, context: str
) -> Iterator[Claim]:
    what = f"mean of {column.name}"
    values: Sequence[Quantity] = column.values
    n = _seed_count(attached)
    if n is not None and n != len(values):
        subset = _best_of(claimed, values, n)
        if subset is None:
            text = f"{n} seeds are claimed; the table has {len(values)}"
            yield failed(line.number, here, f"seeds behind {what}", text, str(n), str(len(values)))
        else:
            values = subset
            text = f"this is the mean of the {n} best of {len(column.values)} seeds"
            right = claimed.like(column.mean.value)
            yield disputed(line.number, here, what, f"{text}; all give {right}", claimed.text, right)
            if spread is not None:
                yield judge_std(spread, values, line.number, here, f"std of {column.name}", context)
            return
    yield judge_mean(claimed, values, line.number, here, what)
    if spread is not None:
        yield judge_std(spread, values, line.number, here, f"std of {column.name}", f"{attached} {context[-40:]}")


def _std_alone(document: Document, line: Line) -> Iterator[Claim]:
    """ "sample stddev: 0.0018" on a line of its own: of the column of seeds that it fits, or that alone is near it."""
    match = _STD_ALONE.match(line.text)
    if not match:
        return
    claimed = read_quantities(f"{match[1]} {match[2] or ''}".strip())[0]
    columns = [c for c in document.columns if c.kind in ((claimed.kind,) if claimed.kind else ("bpb", "nats", "bytes"))]
    near = [c for c in columns if c.sample_std.low <= 3 * claimed.value]
    near = [c for c in near if claimed.value <= 3 * c.sample_std.high]
    fitting = [c for c in near if _fits_std(claimed, c)]
    chosen = fitting or near
    if len(chosen) == 1 or fitting:
        yield judge_std(claimed, chosen[-1].values, line.number, line.text, f"std of {chosen[-1].name}", line.text)


def _fits_std(claimed: Quantity, column: Column) -> bool:
    return any(claimed.admits(std.low, std.high) for std in (column.sample_std, column.population_std))


def _spread(after: str, inside: str) -> Quantity | None:
    """The deviation that goes with a figure: in the parenthesis behind it, after ±, or named a few words later."""
    nearby = re.split(r"[|(;]|\.\s", after[:60])[0]
    plus = _PLUS_MINUS.match(after.lstrip(" *`").removeprefix("total").strip())
    match = _STD.search(inside) or plus or _STD.search(nearby)
    return read_quantities(f"{match[1]} {match[2] or ''}".strip())[0] if match else None


def _kind_from_words(quantity: Quantity, before: str, after: str) -> str:
    near = f"{before[-40:]} {after[:14]}".lower()
    if re.search(r"val[_ ]?loss|nats", before[-40:].lower()):
        return "nats"
    if quantity.step < 1e-2 and 0.3 < quantity.value < 10 and re.search(r"bpb|ttt|±|std|mean", near):
        return "bpb"
    return ""


def _label(kind: str) -> str:
    return {"bytes": "size"}.get(kind, kind)


def _about_others(before: str) -> bool:
    """Whether the words before the number in its sentence speak of somebody else's result."""
    sentence = re.split(r"(?<=[.;|])\s|\bThis run|\bthis (?:run|work|PR|submission)|\bours?\b", before)[-1]
    return bool(OTHERS.search(sentence[-70:]))


def _column(document: Document, claimed: Quantity, before: str) -> Column | None:
    """The column a headline is about: of its kind and near it. The one that fits it; else the one that the words
    before it name; else one whose seed it repeats; else the final one; else the nearest."""
    near = [
        column
        for column in document.of_kind(claimed.kind)
        if abs(column.mean.value - claimed.value) <= NEAR * abs(column.mean.value)
    ]
    fitting = [column for column in near if claimed.admits(column.mean.low, column.mean.high)]
    named = [column for column in near if column.name.lower() in before.lower()]
    repeated = [column for column in near if any(claimed.admits(v.low, v.high) for v in column.values)]
    final = [column for column in near if column is document.final_column(claimed.kind)]
    chosen = fitting or named or repeated or final or near
    return min(chosen, key=lambda column: abs(column.mean.value - claimed.value), default=None)


def _seed_count(text: str) -> int | None:
    match = _COUNTED.search(text)
    if not match:
        return None
    word = match["n"] or match["m"]
    return int(word) if word.isdigit() else _WORDS.get(word.lower())


def _best_of(claimed: Quantity, values: Sequence[Quantity], n: int) -> list[Quantity] | None:
    if not 0 < n < len(values):
        return None
    best = sorted(values, key=lambda v: v.value)[:n]
    mean = mean_of(best)
    return best if claimed.admits(mean.low, mean.high) else None


def _headline_size(document: Document, line: Line, claimed: Quantity, before: str, after: str) -> Iterator[Claim]:
    """A size in a headline ("| ~15.95 MB |") without "mean": the mean or the worst seed may stand there."""
    if "|" not in line.text or re.search(r"[≤<]|cap|limit|under|GB", f"{before[-12:]}{after[:12]}", re.IGNORECASE):
        return
    column = _column(document, claimed, before)
    if column is None:
        return
    here, what = quote(line.text, claimed), f"size ({column.name})"
    worst = max(column.values, key=lambda v: v.value)
    mean = column.mean
    if claimed.admits(mean.low, mean.high) or claimed.admits(worst.low, worst.high):
        word = "the mean" if claimed.admits(mean.low, mean.high) else "the worst seed"
        yield passed(line.number, here, what, f"{word} of {len(column.values)} seeds", claimed.text)
    elif any(claimed.admits(v.low, v.high) for v in column.values):
        text = (
            f"one seed's size; the mean is {mean.value:,.0f} and the worst, which decides the cap, {worst.value:,.0f}"
        )
        yield disputed(line.number, here, what, f"{text} bytes", claimed.text, claimed.like(worst.value))
    else:
        text = f"no seed's size; the mean is {mean.value:,.0f}, the worst {worst.value:,.0f} bytes"
        yield failed(line.number, here, what, text, claimed.text, claimed.like(worst.value))
