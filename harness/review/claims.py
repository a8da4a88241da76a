"""Claims of a text, recomputed from the numbers that the text itself prints: ``check_text(text) -> list[Claim]``.

A claim holds when some unrounded numbers that print like the inputs give a result that prints like the claim. UNKNOWN
where a text does not give the inputs; nothing is guessed. Here: tables and headlines; sentences are in ``sentences``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations

import msgspec

from harness.review.mamba3 import check_model_size
from harness.review.number import (
    LEFT_OUT,
    NEAR,
    NUMBER,
    Claim,
    Number,
    judged,
    left_out,
    mean_of,
    read_numbers,
    read_one,
    std_of,
)
from harness.review.readme import OTHERS, Column, Document, Line, Row, Table, quote
from harness.review.sentences import check_sentences
from harness.rules import Verdict

ORDER = (Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN)
WORDS = {Verdict.FAIL: "WRONG", Verdict.WARN: "DISPUTED", Verdict.PASS: "holds", Verdict.UNKNOWN: "not checkable"}
SMALLEST_SCORE = 0.2
"""Below it a number of bpb or nats is a difference and no score."""
MAX_WIDTH = 20
"""Columns of a table whose differences are looked for: each pair of columns is tried. Public READMEs have up to 9."""
SAME_TEXT = 3e-4
"""Relative room for bpb / nats: evaluations of one text may leave out a tail shorter than a window."""
DIFFERENCE = re.compile(r"gain|delta|Δ|diff|improvement|change\b|gap", re.IGNORECASE)
_NAMED_POPULATION = re.compile(r"population|pstdev|pop\.? std|ddof\s*=\s*0|σ_n\b", re.IGNORECASE)
_NAMED_SAMPLE = re.compile(r"sample|ddof\s*=\s*1|n\s*[-−]\s*1", re.IGNORECASE)
_WITH_STD = re.compile(r"(?:±|\+/-|\(?\s*(?:sample |population )?std\.?[\s:=~]*)", re.IGNORECASE)
_COUNTED = re.compile(
    r"(?P<n>\d+)[- ]seeds?\b[^)|;]*?\b(?:mean|avg|average)\b"
    r"|\b(?:mean|average) (?:of|over|across) (?:all |the )?(?P<m>\d+|two|three|four|five|six|seven) (?:seeds|runs)",
    re.IGNORECASE,
)
_PLAIN_MEAN = re.compile(r"\b(?:mean|average|avg)\b", re.IGNORECASE)
_PAREN = re.compile(
    r"^\s*(?:BPB|nats|bytes)?\s*(?:[A-Za-z+-]+\s){0,2}?(?:[A-Za-z+-]+\s*)?\((?P<inside>[^()]*)\)", re.IGNORECASE
)
_MEAN_BEFORE = re.compile(r"\b(?:mean|average|avg)(?:\b|_)[^.;|/\d]{0,45}$", re.IGNORECASE)
_MEAN_AFTER = re.compile(r"^[\s*`]*(?:mean|average|avg)\b(?! of (?:the )?(?:best|lowest))", re.IGNORECASE)
_SIZED = rf"({NUMBER})\s*(mBPB|bytes|KiB|MiB|KB|MB|bpb|nats|B(?!\w))?"
_STD = re.compile(
    r"\b(?:sample |population |pop\.? )?(?:std|stdev|stddev|std\.? dev|sd|standard deviation|σ)\b(?: is| of)?"
    rf"[\s:=*`~]*{_SIZED}",
    re.IGNORECASE,
)
_PLUS_MINUS = re.compile(rf"(?:±|\+/-)\s*{_SIZED}", re.IGNORECASE)
_STD_ALONE = re.compile(rf"^\W*(?:[A-Za-z_]+ )?{_STD.pattern}\W*$", re.IGNORECASE)
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}


def check_text(text: str) -> list[Claim]:
    """Every claim found in ``text``; one number is judged once for each thing that it is said to be.

    Of a text beyond the limits of :mod:`harness.review.readme` an UNKNOWN claim says what was not checked.
    """
    return check_document(Document(text))


def check_document(document: Document) -> list[Claim]:
    """The same for a text that is read already."""
    found: dict[tuple[int, str, str, str], Claim] = {}
    for check in (check_tables, check_headlines, check_sentences, check_model_size):
        for claim in check(document):
            found.setdefault((claim.line, claim.what, claim.claimed, claim.quote), claim)
    for line, words in document.left_out:
        found[line, LEFT_OUT, "", words] = left_out(line, words)
    return sorted(found.values(), key=lambda claim: (claim.line, ORDER.index(claim.verdict)))


def judge_mean(claimed: Number, values: Sequence[Number], line: int, quote: str, what: str) -> Claim:
    """The mean of ``values`` as printed, or as some unrounded inputs would give it."""
    mean = mean_of(values)
    right = claimed.like(mean.value)
    if claimed.admits(mean.low, mean.high):
        return Claim(line, quote, what, Verdict.PASS, f"{len(values)} seeds give {right}", claimed.text)
    exact = f"{mean.value:,.0f} bytes ({right})" if claimed.kind == "bytes" and claimed.step > 1 else right
    text = f"the mean of {len(values)} seeds is {exact}"
    ordered = sorted(values, key=lambda v: v.value)
    for end, name in ((ordered[0], "smallest"), (ordered[-1], "largest")):
        if claimed.admits(end.low, end.high):
            text += f"; {claimed.text.strip()} is the {name} seed alone"
            break
    if claimed.kind == "bytes":
        text += f"; the worst, which decides the cap, has {ordered[-1].value:,.0f} bytes"
    return Claim(line, quote, what, Verdict.FAIL, text, claimed.text, right)


def judge_std(claimed: Number, values: Sequence[Number], line: int, quote: str, what: str, context: str = "") -> Claim:
    """A standard deviation: the sample one (n - 1) unless ``context`` names the population one.

    A claim that some unrounded inputs give as the sample deviation holds. One that only the population deviation gives
    is disputed unless it says so: the tests over seeds need the sample one.
    """
    sample, population = std_of(values, sample=True), std_of(values, sample=False)
    both = f"sample {claimed.like(sample.value)}, population {claimed.like(population.value)}"
    right = claimed.like(sample.value)

    def claim(verdict: Verdict, text: str) -> Claim:
        return Claim(line, quote, what, verdict, text, claimed.text, "" if verdict is Verdict.PASS else right)

    by_name = bool(_NAMED_POPULATION.search(context))
    if by_name and claimed.admits(population.low, population.high):
        return claim(Verdict.PASS, f"population deviation, as named ({both})")
    if not by_name and claimed.admits(sample.value, sample.value):
        return claim(Verdict.PASS, f"sample deviation ({both})")
    if claimed.admits(sample.low, sample.high):
        return claim(Verdict.PASS, f"sample deviation of unrounded values ({both} as printed)")
    if not _NAMED_SAMPLE.search(context):
        if claimed.admits(population.value, population.value):
            return claim(Verdict.WARN, f"this is the population deviation; the sample one is {right} ({both})")
        if claimed.admits(population.low, population.high):
            span = f"{claimed.like(population.low)} to {claimed.like(population.high)}"
            text = (
                f"the printed values do not give it ({both}); only the population deviation of unrounded values could"
            )
            return claim(Verdict.WARN, f"{text} ({span})")
    return claim(Verdict.FAIL, f"neither deviation: {both}")


def check_tables(document: Document) -> Iterator[Claim]:
    """Everything that the text's tables claim about their own numbers."""
    for table in document.tables:
        columns = [column for column in document.columns if column.table is table]
        for row in table.rows:
            if row.aggregate:
                for column in columns:
                    yield from _aggregate(row, column)
        yield from _difference_columns(table)
        yield from _loss_ratio(table, columns)


def _aggregate(row: Row, column: Column) -> Iterator[Claim]:
    cell = row.cell(column.index)
    claimed = read_one(cell)
    if claimed is None:
        return
    claimed = dataclasses.replace(claimed, kind=claimed.kind or column.kind)
    where, what = f"{row.label} {cell}", f"{row.aggregate} of {column.name}"
    if row.aggregate == "mean":
        yield judge_mean(claimed, column.values, row.line, where, what)
        rest = cell.strip()[claimed.end :]
        behind = _WITH_STD.search(rest)
        if behind and (found := read_numbers(rest[behind.end() :])):
            extra = dataclasses.replace(found[0], signed=False, value=abs(found[0].value))
            yield judge_std(extra, column.values, row.line, where, f"std of {column.name}", where)
    elif row.aggregate.endswith("std"):
        yield judge_std(claimed, column.values, row.line, where, what, row.label)
    elif not (row.label.lower().startswith(("best", "worst")) and column.kind not in ("bpb", "nats", "bytes")):
        low, high = column.end(lowest=True), column.end(lowest=False)
        spans = {"max": (high.low, high.high), "min": (low.low, low.high)}
        first, last = spans.get(row.aggregate, (high.low - low.high, high.high - low.low))
        yield judged(row.line, where, what, claimed, first, last, "the seeds give {}")


def _difference_columns(table: Table) -> Iterator[Claim]:
    """A gain or delta column is the difference of two others in its row: which two, most rows decide."""
    claimed_in = [(index, name) for index, name in enumerate(table.header) if DIFFERENCE.search(name)]
    if not claimed_in or not table.seed_rows:
        return
    if table.width > MAX_WIDTH:
        words = f"a table of {table.width} columns; differences are looked for in tables of up to {MAX_WIDTH}"
        yield left_out(table.line, words)
        return
    for index, name in claimed_in:
        rows = [row for row in table.rows if not row.aggregate.endswith("std") and row.value(index)]
        pair = _difference_pair(table, rows, index)
        for row in rows if pair else ():
            assert pair is not None
            if found := _difference(row, index, *pair):
                what = f"{name} = {table.name(pair[0])} − {table.name(pair[1])}"
                yield judged(row.line, f"{row.label} {found[0].text}", what, *found, "the row gives {}")


def _difference_pair(table: Table, rows: list[Row], index: int) -> tuple[int, int] | None:
    best: tuple[int, tuple[int, int]] | None = None
    for a, b in permutations(range(table.width), 2):
        if index in (a, b) or not table.kind(a) or table.kind(a) != table.kind(b):
            continue
        found = [difference for row in rows if (difference := _difference(row, index, a, b))]
        hits = sum(claimed.admits(low, high) for claimed, low, high in found)
        if len(found) > 1 and 3 * hits >= 2 * len(found) and (best is None or hits > best[0]):
            best = hits, (a, b)
    return best[1] if best else None


def _difference(row: Row, index: int, a: int, b: int) -> tuple[Number, float, float] | None:
    claimed, first, second = row.value(index), row.value(a), row.value(b)
    if claimed is None or first is None or second is None:
        return None
    return claimed, first.low - second.high, first.high - second.low


def _loss_ratio(table: Table, columns: list[Column]) -> Iterator[Claim]:
    """One text has one ratio of bpb to nats a token, so a slip of the pen in either shows."""
    losses, scores = ([c for c in columns if c.kind == kind] for kind in ("nats", "bpb"))
    if len(losses) != 1 or len(scores) != 1:
        return
    ratios = [
        (row, bits.value / nats.value, bits.half / bits.value + nats.half / nats.value)
        for row, bits, nats in zip(table.seed_rows, scores[0].values, losses[0].values, strict=True)
        if bits.value and nats.value
    ]
    if not ratios:
        return
    middle = sorted(ratio for _, ratio, _ in ratios)[len(ratios) // 2]
    room = max(error for _, _, error in ratios)
    for row, ratio, error in ratios:
        what = f"{scores[0].name} against {losses[0].name}"
        text = f"bpb / nats is {ratio:.6f}; the other seeds' is {middle:.6f}"
        odd = len(ratios) > 2 and abs(ratio / middle - 1) > error + room + SAME_TEXT
        if odd:
            text = f"{text}: one of the two is mistyped"
            yield Claim(row.line, row.label, what, Verdict.WARN, text, f"{ratio:.6f}")
        else:
            yield Claim(row.line, row.label, what, Verdict.PASS, text)


def check_headlines(document: Document) -> Iterator[Claim]:
    """Figures in prose that speak for several seeds, and headline sizes: "1.1456 bpb (3-seed mean, std 0.0011)"."""
    for line in document.lines:
        yield from _std_alone(document, line)
        previous_end = 0
        for number in line.numbers:
            before, after = line.text[previous_end : number.start], line.text[number.end :]
            previous_end = number.end
            yield from _headline(document, line, number, before, after)


def _headline(document: Document, line: Line, number: Number, before: str, after: str) -> Iterator[Claim]:
    all_before = line.text[max(0, number.start - 200) : number.start]
    kind = number.kind or _kind_from_words(number, before, after)
    is_score = kind in ("bpb", "nats") and number.value >= SMALLEST_SCORE
    if not (is_score or kind == "bytes") or number.signed:
        return
    claimed = dataclasses.replace(number, kind=kind)
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
    here = quote(line.text, number)
    if _about_others(all_before):
        text = "its seeds are not in this text"
        yield Claim(line.number, here, "mean of another submission", Verdict.UNKNOWN, text, claimed.text)
        return
    column = _column(document, claimed, all_before[-50:])
    if column is None:
        what = f"mean {'size' if kind == 'bytes' else kind} over seeds"
        yield Claim(line.number, here, what, Verdict.UNKNOWN, "no table of seeds in this text gives it", claimed.text)
        return
    yield from _against_column(line, claimed, column, spread, here, attached, before + after)


def _against_column(
    line: Line, claimed: Number, column: Column, spread: Number | None, here: str, attached: str, context: str
) -> Iterator[Claim]:
    what, values, n = f"mean of {column.name}", column.values, _seed_count(attached)
    best = sorted(values, key=lambda v: v.value)[:n] if n is not None and 0 < n < len(values) else []
    if best and claimed.admits(mean_of(best).low, mean_of(best).high):
        right = claimed.like(column.mean.value)
        text = f"this is the mean of the {n} best of {len(values)} seeds; all give {right}"
        yield Claim(line.number, here, what, Verdict.WARN, text, claimed.text, right)
        if spread is not None:
            yield judge_std(spread, best, line.number, here, f"std of {column.name}", context)
        return
    if n is not None and n != len(values):
        text = f"{n} seeds are claimed; the table has {len(values)}"
        yield Claim(line.number, here, f"seeds behind {what}", Verdict.FAIL, text, str(n), str(len(values)))
    yield judge_mean(claimed, values, line.number, here, what)
    if spread is not None:
        yield judge_std(spread, values, line.number, here, f"std of {column.name}", f"{attached} {context[-40:]}")


def _std_alone(document: Document, line: Line) -> Iterator[Claim]:
    """ "sample stddev: 0.0018" on a line of its own: of the column of seeds that it fits, or that alone is near it."""
    match = _STD_ALONE.match(line.text)
    if not match:
        return
    claimed = _sized(match)
    columns = [c for c in document.columns if c.kind in ((claimed.kind,) if claimed.kind else ("bpb", "nats", "bytes"))]
    near = [c for c in columns if c.sample_std.low <= 3 * claimed.value <= 9 * c.sample_std.high]
    both = [(c, (c.sample_std, c.population_std)) for c in near]
    fitting = [c for c, stds in both if any(claimed.admits(std.low, std.high) for std in stds)]
    chosen = fitting or near
    if len(chosen) == 1 or fitting:
        yield judge_std(claimed, chosen[-1].values, line.number, line.text, f"std of {chosen[-1].name}", line.text)


def _sized(match: re.Match[str]) -> Number:
    return read_numbers(f"{match[1]} {match[2] or ''}".strip())[0]


def _spread(after: str, inside: str) -> Number | None:
    """The deviation that goes with a figure: in the parenthesis behind it, after ±, or named a few words later."""
    nearby = re.split(r"[|(;]|\.\s", after[:60])[0]
    plus = _PLUS_MINUS.match(after.lstrip(" *`").removeprefix("total").strip())
    match = _STD.search(inside) or plus or _STD.search(nearby)
    return _sized(match) if match else None


def _kind_from_words(number: Number, before: str, after: str) -> str:
    near = f"{before[-40:]} {after[:14]}".lower()
    if re.search(r"val[_ ]?loss|nats", before[-40:].lower()):
        return "nats"
    fine = number.step < 1e-2 and 0.3 < number.value < 10
    return "bpb" if fine and re.search(r"bpb|ttt|±|std|mean", near) else ""


def _about_others(before: str) -> bool:
    """Whether the words before the number in its sentence speak of somebody else's result."""
    sentence = re.split(r"(?<=[.;|])\s|\bThis run|\bthis (?:run|work|PR|submission)|\bours?\b", before)[-1]
    return bool(OTHERS.search(sentence[-70:]))


def _column(document: Document, claimed: Number, before: str) -> Column | None:
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
    word = (match["n"] or match["m"]).lower() if match else ""
    return int(word) if word.isdigit() else _COUNTS.get(word)


def _headline_size(document: Document, line: Line, claimed: Number, before: str, after: str) -> Iterator[Claim]:
    """A size in a headline ("| ~15.95 MB |") without "mean": the mean or the worst seed may stand there."""
    if "|" not in line.text or re.search(r"[≤<]|cap|limit|under|GB", f"{before[-12:]}{after[:12]}", re.IGNORECASE):
        return
    column = _column(document, claimed, before)
    if column is None:
        return
    here, what, mean, worst = quote(line.text, claimed), f"size ({column.name})", column.mean, column.end(lowest=False)
    sizes = f"the mean is {mean.value:,.0f}"
    right, verdict = claimed.like(worst.value), Verdict.FAIL
    text = f"no seed's size; {sizes}, the worst {worst.value:,.0f} bytes"
    if claimed.admits(mean.low, mean.high) or claimed.admits(worst.low, worst.high):
        word = "the mean" if claimed.admits(mean.low, mean.high) else "the worst seed"
        verdict, text, right = Verdict.PASS, f"{word} of {len(column.values)} seeds", ""
    elif any(claimed.admits(v.low, v.high) for v in column.values):
        verdict = Verdict.WARN
        text = f"one seed's size; {sizes} and the worst, which decides the cap, {worst.value:,.0f} bytes"
    yield Claim(line.number, here, what, verdict, text, claimed.text, right)


def tally(claims: Sequence[Claim]) -> str:
    """ "5 wrong, 3 disputed, 16 hold, 13 not checkable"."""
    count = Counter(claim.verdict for claim in claims)
    words = ((Verdict.FAIL, "wrong"), (Verdict.WARN, "disputed"), (Verdict.PASS, "hold"))
    return ", ".join(f"{count[v]} {word}" for v, word in (*words, (Verdict.UNKNOWN, "not checkable")))


def render_claims(name: str, claims: Sequence[Claim], *, every: bool = True) -> str:
    """One block a verdict, worst first, one claim a line with its line number. ``every`` also shows what holds.

    What was not read is always shown.
    """
    from harness.text import printable

    lines = [f"{printable(name)}: {tally(claims)}"]
    for verdict in ORDER:
        chosen = [claim for claim in claims if claim.verdict is verdict]
        if not every and verdict in (Verdict.PASS, Verdict.UNKNOWN):
            chosen = [claim for claim in chosen if claim.what == LEFT_OUT]
        if chosen:
            lines += ["", WORDS[verdict]]
        for claim in chosen:
            claimed = f" {printable(claim.claimed.strip(), 40)}" if claim.claimed else ""
            lines.append(f"  line {claim.line}: {printable(claim.what, 60)}{claimed}: {printable(claim.message, 300)}")
            lines.append(f"      “{printable(claim.quote, 100)}”")
    return "\n".join(lines)


def claims_json(found: dict[str, list[Claim]]) -> str:
    """Several files as one JSON document: file, counts by verdict, every claim."""
    files = [
        {
            "file": name,
            "counts": dict(sorted(Counter(claim.verdict.value for claim in claims).items())),
            "claims": msgspec.to_builtins(claims),
        }
        for name, claims in found.items()
    ]
    return json.dumps({"files": files}, indent=1, ensure_ascii=False)
