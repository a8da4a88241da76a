"""Claims of a text, recomputed from the numbers that the text itself prints: ``check_text(text) -> list[Claim]``.

A claim holds when some unrounded numbers that print like the inputs give a result that prints like the claim. UNKNOWN
where a text does not give the inputs; nothing is guessed. Read are rows of tables and headlines over seeds.
"""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from harness.review.number import Number, mean_of, read_one, std_of
from harness.review.patterns import WORDS
from harness.review.readme import Column, Document, Line, Row
from harness.rules import Verdict
from harness.text import printable

LEFT_OUT = "limit of what is read"
"""What a claim is about that only says that a part of the text was not checked."""
ORDER = (Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN)
CALLED = {Verdict.FAIL: "WRONG", Verdict.WARN: "DISPUTED", Verdict.PASS: "holds", Verdict.UNKNOWN: "not checkable"}
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number that the text claims.

    line:    1-based line of the text; quote: the words that make the claim
    what:    what the number is said to be, such as "std of Total submission"
    verdict: PASS it follows, FAIL it does not, WARN it follows only under a disputed reading, UNKNOWN not checkable
    right:   the right value, where the text or the records give one
    """

    line: int
    quote: str
    what: str
    verdict: Verdict
    message: str
    claimed: str = ""
    right: str = ""


def check_text(text: str) -> list[Claim]:
    """Every claim found in ``text``; one number is judged once for each thing that it is said to be.

    Of a text beyond the limits of :mod:`harness.review.readme` an UNKNOWN claim says what was not checked.
    """
    return check_document(Document(text))


def check_document(document: Document) -> list[Claim]:
    """The same for a text that is read already."""
    found: dict[tuple[int, str, str, str], Claim] = {}
    for claim in (*check_tables(document), *check_headlines(document)):
        found.setdefault((claim.line, claim.what, claim.claimed, claim.quote), claim)
    for line, words in document.left_out:
        found[line, LEFT_OUT, "", words] = Claim(line, words, LEFT_OUT, Verdict.UNKNOWN, words)
    return sorted(found.values(), key=lambda claim: (claim.line, ORDER.index(claim.verdict)))


def judge_mean(claimed: Number, values: Sequence[Number], line: int, quote: str, what: str) -> Claim:
    """The mean of ``values`` as printed, or as some unrounded inputs would give it."""
    mean = mean_of(values)
    right = claimed.like(mean.value)
    cut = claimed.kind == "bytes" and claimed.gives(mean.value)
    if cut or claimed.admits(mean.low, mean.high):
        return Claim(line, quote, what, Verdict.PASS, f"{len(values)} seeds give {right}", claimed.text)
    exact = f"{mean.value:,.0f} bytes ({right})" if claimed.kind == "bytes" and claimed.step > 1 else right
    text = f"the mean of {len(values)} seeds is {exact}"
    ordered = sorted(values, key=lambda v: v.value)
    ends = ((ordered[0], "smallest"), (ordered[-1], "largest"))
    alone = next((name for end, name in ends if claimed.admits(end.low, end.high)), "")
    text += f"; {claimed.text.strip()} is the {alone} seed alone" if alone else ""
    if claimed.kind == "bytes":
        text += f"; the worst, which decides the cap, has {ordered[-1].value:,.0f} bytes"
    return Claim(line, quote, what, Verdict.FAIL, text, claimed.text, right)


def judge_std(claimed: Number, values: Sequence[Number], line: int, quote: str, what: str, context: str = "") -> Claim:
    """A standard deviation: the sample one (n - 1) unless ``context`` names the population one.

    One that only the population deviation gives is disputed unless it says so: tests over seeds need the sample one.
    """
    sample, population = std_of(values, sample=True), std_of(values, sample=False)
    right = claimed.like(sample.value)
    both = f"sample {right}, population {claimed.like(population.value)}"
    divided = claimed.admits(population.low, population.high)
    if WORDS["named_population"].search(context) and divided:
        return Claim(line, quote, what, Verdict.PASS, f"population deviation, as named ({both})", claimed.text)
    if claimed.admits(sample.low, sample.high):
        return Claim(line, quote, what, Verdict.PASS, f"sample deviation of such values ({both})", claimed.text)
    if divided and not WORDS["named_sample"].search(context):
        text = f"this is the population deviation; the sample one is {right} ({both})"
        return Claim(line, quote, what, Verdict.WARN, text, claimed.text, right)
    return Claim(line, quote, what, Verdict.FAIL, f"neither deviation: {both}", claimed.text, right)


def check_tables(document: Document) -> Iterator[Claim]:
    """Everything that the text's tables claim about their own numbers."""
    for column in document.columns:
        for row in column.table.rows:
            if row.aggregate and (claimed := row.value(column.index)):
                yield from _aggregate(row, column, dataclasses.replace(claimed, kind=claimed.kind or column.kind))


def _aggregate(row: Row, column: Column, claimed: Number) -> Iterator[Claim]:
    cell = row.cell(column.index)
    rest = cell.strip()[claimed.end :]
    word = re.search(r"\b(max|min)\b", rest.lower())
    what = word[1] if word else row.aggregate
    where, named = f"{row.label} {cell}", f"{what} of {column.name}"
    if what == "mean":
        yield judge_mean(claimed, column.values, row.line, where, named)
        if spread := _spread(rest):
            yield judge_std(spread, column.values, row.line, where, f"std of {column.name}", where)
    elif what.endswith("std"):
        yield judge_std(claimed, column.values, row.line, where, named, row.label)
    elif not (row.label.lower().startswith(("best", "worst")) and column.kind not in ("bpb", "nats", "bytes")):
        low, *_, high = sorted(column.values, key=lambda value: value.value)
        spans = {"max": (high.low, high.high), "min": (low.low, low.high)}
        first, last = spans.get(what, (high.low - low.high, high.high - low.low))
        right, holds = claimed.like((first + last) / 2), claimed.admits(first, last)
        verdict = Verdict.PASS if holds else Verdict.FAIL
        text = f"the seeds give {right}"
        yield Claim(row.line, where, named, verdict, text, claimed.text, "" if holds else right)


def _spread(text: str) -> Number | None:
    """The deviation that a text names: the number after ± at its beginning, or after the word."""
    found = (read_one(text[hit.end() :]) for hit in WORDS["with_std"].finditer(text))
    first = next(filter(None, found), None)
    return first and dataclasses.replace(first, signed=False, value=abs(first.value))


def check_headlines(document: Document) -> Iterator[Claim]:
    """Figures in prose that speak for several seeds: "1.1456 bpb (3-seed mean, std 0.0011)"."""
    for line in document.lines:
        for number in line.numbers:
            before, after = line.text[max(0, number.start - 200) : number.start], line.text[number.end :]
            near = f"{before[-40:]} {after[:14]}".lower()
            fine = number.step < 1e-2 and 0.3 < number.value < 10 and re.search(r"bpb|ttt|±|std|mean", near)
            words = "nats" if re.search(r"val[_ ]?loss|nats", before[-40:].lower()) else "bpb" if fine else ""
            kind = number.kind or words
            is_score = kind in ("bpb", "nats") and number.value >= 0.2  # below it is a difference
            if number.signed or not (is_score or kind == "bytes"):
                continue
            paren = WORDS["in_parentheses"].match(after)
            inside = paren["inside"] if paren else ""
            mean = WORDS["a_mean"].search(inside) or WORDS["mean_before"].search(before[-60:])
            mean = mean or WORDS["mean_after"].match(after)
            nearby = re.split(r"[|(;]|\.\s", after[:60])[0]  # the deviation: in parentheses, after ±, or words later
            spread = _spread(inside) or _spread(nearby)
            if (mean or spread) and not re.search(r"interval|\bCI\b|range", before[-60:], re.IGNORECASE):
                claimed = dataclasses.replace(number, kind=kind)
                yield from _headline(document, line, claimed, before, f"{inside} {after[:40]}", spread)


def _headline(
    document: Document, line: Line, claimed: Number, before: str, after: str, spread: Number | None
) -> Iterator[Claim]:
    start, column = max(0, min(claimed.start - 35, len(line.text) - 70)), _column(document, claimed, before[-50:])
    words = line.text[start : start + 70].strip()
    here = ("…" if start else "") + words + ("…" if start + 70 < len(line.text) else "")
    sentence = re.split(r"(?<=[.;|])\s|\bThis run|\bthis (?:run|work|PR|submission)|\bours?\b", before)[-1]
    if WORDS["others"].search(sentence[-100:]) or column is None:
        text = "its seeds are not in this text" if column else "no table of seeds in this text gives it"
        yield Claim(line.number, here, f"mean {claimed.kind} over seeds", Verdict.UNKNOWN, text, claimed.text)
        return
    what, values, counted = f"mean of {column.name}", list(column.values), WORDS["counted"].search(after)
    word = (counted["n"] or counted["m"]).lower() if counted else ""
    n = int(word) if word.isdigit() else _COUNTS.get(word, len(values))
    best = sorted(values, key=lambda v: v.value)[:n] if 0 < n < len(values) else []
    if best and claimed.admits(mean_of(best).low, mean_of(best).high):
        right, values = claimed.like(column.mean.value), best
        text = f"this is the mean of the {n} best of {len(column.values)} seeds; all give {right}"
        yield Claim(line.number, here, what, Verdict.WARN, text, claimed.text, right)
    else:
        if n != len(values):
            text = f"{n} seeds are claimed; the table has {len(values)}"
            yield Claim(line.number, here, f"seeds behind {what}", Verdict.FAIL, text, str(n), str(len(values)))
        yield judge_mean(claimed, values, line.number, here, what)
    if spread is not None:
        yield judge_std(spread, values, line.number, here, f"std of {column.name}", f"{before[-40:]} {after}")


def _column(document: Document, claimed: Number, before: str) -> Column | None:
    """The column a headline is about: of its kind and near it. The one that fits it; else the one that the words
    before it name; else the last after test-time training or sliding; else the nearest."""
    columns = [column for column in document.columns if column.kind == claimed.kind]
    last = [c for c in columns if re.search(r"ttt|sliding|final|post|test-time", c.name, re.IGNORECASE)] or columns
    # A claimed mean that is further off than 5 % is about something else.
    near = [column for column in columns if abs(column.mean.value - claimed.value) <= 0.05 * abs(column.mean.value)]
    fitting = [column for column in near if claimed.admits(column.mean.low, column.mean.high)]
    named = [column for column in near if column.name.lower() in before.lower()]
    final = [column for column in near if column is last[-1]]
    return min(fitting or named or final or near, key=lambda c: abs(c.mean.value - claimed.value), default=None)


def render_claims(name: str, claims: Sequence[Claim], *, every: bool = True) -> str:
    """One block a verdict, worst first, one claim a line with its line number. ``every`` also shows what holds.

    What was not read is always shown.
    """
    count = Counter(claim.verdict for claim in claims)
    tally = ", ".join(f"{count[v]} {word.lower().replace('holds', 'hold')}" for v, word in CALLED.items())
    lines = [f"{printable(name)}: {tally}"]
    shown = [c for c in claims if every or c.verdict in (Verdict.FAIL, Verdict.WARN) or c.what == LEFT_OUT]
    for verdict in ORDER:
        if chosen := [claim for claim in shown if claim.verdict is verdict]:
            lines += ["", CALLED[verdict]]
        for claim in chosen:
            claimed = f" {printable(claim.claimed.strip(), 40)}" if claim.claimed else ""
            lines.append(f"  line {claim.line}: {printable(claim.what, 60)}{claimed}: {printable(claim.message, 300)}")
            lines.append(f"      “{printable(claim.quote, 100)}”")
    return "\n".join(lines)


def claims_json(found: dict[str, list[Claim]]) -> str:
    """Several files as one JSON document: file, counts by verdict, every claim."""
    words = {name: sorted(claim.verdict.value for claim in claims) for name, claims in found.items()}
    files = [{"file": n, "counts": Counter(words[n]), "claims": msgspec.to_builtins(of)} for n, of in found.items()]
    return json.dumps({"files": files}, indent=1, ensure_ascii=False)
