"""Differences and improvements that sentences claim: between which scores, and whether those give them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import combinations

from harness.claims.claim import LEFT_OUT, Claim, failed, passed, unknown
from harness.claims.document import Document, Line, quote
from harness.claims.quantity import NUMBER, Quantity, read_quantities

MAX_DIFFERENCES = 100
MAX_PARAGRAPH = 120
MAX_OTHERS = 60
"""Differences of a text, numbers of a paragraph and scores of other submissions that are looked at; the most in 61
public READMEs are 13, 38 and under 20. Each difference is held against each pair of scores."""
_GAIN = re.compile(r"improve|improvement|beats?\b|better|gain|regress|lower|worse|delta|Δ|drop|reduc", re.IGNORECASE)
_TOWARDS = re.compile(r"improve|improvement|beats?\b|better than|gain over|delta|Δ", re.IGNORECASE)
_OVER_SEEDS = re.compile(r"\b(?:mean|average)\b", re.IGNORECASE)
_NAMED_DIFFERENCE = re.compile(r"(?:delta|difference|Δ)\W*(?:[-−\d.]+ (?:nats|bpb) ?\(?)?$", re.IGNORECASE)
_FOREIGN = re.compile(rf"#\d+\)?\W{{0,4}}({NUMBER})(?:\s?bpb)?\)", re.IGNORECASE)


def check_differences(document: Document) -> Iterator[Claim]:
    """Every difference that a paragraph claims, up to the limits; an UNKNOWN claim says where they are reached."""
    others = _scores_of_others(document)
    judged = 0
    for lines in document.paragraphs:
        claimed = [(line, quantity) for line in lines for quantity in line.quantities if _is_difference(line, quantity)]
        if not claimed:
            continue
        numbers = sum(len(line.quantities) for line in lines)
        if numbers > MAX_PARAGRAPH:
            words = (
                f"a paragraph of {numbers} numbers; differences are looked for where there are up to {MAX_PARAGRAPH}"
            )
            yield unknown(lines[0].number, words, LEFT_OUT, words)
            continue
        judged += len(claimed)
        if judged > MAX_DIFFERENCES:
            words = f"the text claims more than {MAX_DIFFERENCES} differences; those from here on are not checked"
            yield unknown(lines[0].number, words, LEFT_OUT, words)
            return
        paragraph = _Paragraph(document, lines, others)
        for line, quantity in claimed:
            yield from _difference(paragraph, line, quantity)


class _Paragraph:
    """What its differences may be taken between, read once.

    others: scores behind the numbers of other submissions anywhere in the text, in bpb
    """

    def __init__(self, document: Document, lines: list[Line], others: list[Quantity]) -> None:
        self.document = document
        self.others = others
        self.scores = read_quantities(" ".join(line.text for line in lines))
        self._foreign: dict[str, list[Quantity]] = {}

    def foreign(self, kind: str) -> list[Quantity]:
        """Absolute scores in its words, without those that are the text's own means or seeds."""
        if kind not in self._foreign:
            self._foreign[kind] = _foreign_scores(self.document, self.scores, kind)
        return self._foreign[kind]


def _is_difference(line: Line, quantity: Quantity) -> bool:
    around = line.text[max(0, quantity.start - 40) : quantity.end + 40]
    if quantity.kind not in ("bpb", "nats") or "±" in line.text[max(0, quantity.start - 3) : quantity.start + 1]:
        return False
    small = abs(quantity.value) < 0.2
    return small and (quantity.signed or quantity.unit.lower() == "mbpb" or bool(_GAIN.search(around)))


def _difference(paragraph: _Paragraph, line: Line, claimed: Quantity) -> Iterator[Claim]:
    document, here = paragraph.document, quote(line.text, claimed)
    around = line.text[max(0, claimed.start - 25) : claimed.end + 35]
    rivals = re.search(r"\b(?:vs\.?|versus|than|against|over PR)\b|#\d", line.text[claimed.end : claimed.end + 60])
    if not rivals and (_OVER_SEEDS.search(around) or re.search(r"\bacross \d+ seeds", around)):
        yield from _mean_difference(document, line, claimed, here)
        return
    foreign = paragraph.foreign(claimed.kind)
    elsewhere = [] if claimed.kind != "bpb" else paragraph.others
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
    forced = _must_be(paragraph, line, claimed)
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


def _must_be(paragraph: _Paragraph, line: Line, claimed: Quantity) -> tuple[float, float, str] | None:
    """The range that a difference must lie in, and between what, where the words leave no choice; else ``None``."""
    before, after = line.text[max(0, claimed.start - 200) : claimed.start], line.text[claimed.end : claimed.end + 200]
    scores = [q for q in paragraph.scores if q.kind == claimed.kind and q.value > 0.3 and not q.signed]
    fine = [score for score in scores if score.step <= claimed.step * 1.5]
    if len(fine) == 2 and _NAMED_DIFFERENCE.search(before):
        return (*_gap(fine[0], fine[1].low, fine[1].high), f"{fine[0].text.strip()} against {fine[1].text.strip()}")
    headline = paragraph.document.final_column(claimed.kind)
    rival = _rival(paragraph, before, after, claimed)
    if headline is None or rival is None:
        return None
    words = f"{rival.text.strip()} against the mean of {headline.name}"
    return (*_gap(rival, headline.mean.low, headline.mean.high), words)


def _rival(paragraph: _Paragraph, before: str, after: str, claimed: Quantity) -> Quantity | None:
    """The other submission's score that a difference in bpb is taken against."""
    if claimed.kind != "bpb":
        return None
    behind = re.search(rf"\(({NUMBER})[^()]*\)\s*by\s*$", before)
    ahead = re.match(rf"[^.;]{{0,60}}?\b(?:vs\.?|over|against|than)\s+PR #\d+\)?\s*\(({NUMBER})", after, re.IGNORECASE)
    if behind or ahead:
        found = read_quantities((behind or ahead)[1])  # type: ignore[index]
        return found[0] if 0.3 < found[0].value < 10 else None
    around = before[-25:] + after[:35]
    scores = paragraph.foreign("bpb") or paragraph.others
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


def _foreign_scores(document: Document, scores: list[Quantity], kind: str) -> list[Quantity]:
    found: dict[str, Quantity] = {}
    for quantity in scores:
        bare = not quantity.kind and quantity.step < 2e-3
        fits = 0.3 < quantity.value < 10 and not quantity.signed and quantity.step < 2e-2
        if fits and (quantity.kind == kind or bare) and not _is_own(document, quantity, kind):
            found.setdefault(quantity.text.split()[0], quantity)
    return list(found.values())


def _scores_of_others(document: Document) -> list[Quantity]:
    """Scores that stand right behind the number of another submission: "#1644 (1.1473 bpb)"."""
    found = (match for line in document.lines if (match := _FOREIGN.search(line.text)))
    scores = (read_quantities(match[1])[0] for match in found)
    different = {score.text: score for score in scores if 0.3 < score.value < 10 and score.step < 2e-3}
    return list(different.values())[:MAX_OTHERS]


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
