"""Claims in sentences: differences, ends of the seeds' range, the cap, one figure in two units, sums of parts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from harness.review.number import NEAR, NUMBER, SIGN, UNIT, Claim, Number, judged, left_out, read_numbers, read_one
from harness.review.published import CAP_BYTES
from harness.review.readme import OTHERS, Column, Document, Line, quote
from harness.rules import Verdict

MAX_DIFFERENCES, MAX_PARAGRAPH, MAX_OTHERS = 100, 120, 60
"""Differences of a text, numbers of a paragraph and scores of other submissions that are looked at; the most in 61
public READMEs are 13, 38 and under 20. Each difference is held against each pair of scores."""
_GAIN = re.compile(r"improve|improvement|beats?\b|better|gain|regress|lower|worse|delta|Δ|drop|reduc", re.IGNORECASE)
_TOWARDS = re.compile(r"improve|improvement|beats?\b|better than|gain over|delta|Δ", re.IGNORECASE)
_RIVAL = re.compile(r"\b(?:vs\.?|versus|than|against|over PR)\b|#\d")
_NAMED_DIFFERENCE = re.compile(r"(?:delta|difference|Δ)\W*(?:[-−\d.]+ (?:nats|bpb) ?\(?)?$", re.IGNORECASE)
_FOREIGN = re.compile(rf"#\d+\)?\W{{0,4}}({NUMBER})(?:\s?bpb)?\)", re.IGNORECASE)
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
_ALL = re.compile(r"\b(?:all|every|each|seeds?|artifacts?|submission)\b", re.IGNORECASE)
_MARGIN = re.compile(rf"margins?\W{{0,3}}\s*({NUMBER})\s*(?:[-–−]|to)\s*({NUMBER})\s*bytes", re.IGNORECASE)
_BEAT_ALL = re.compile(
    r"\b(?:all|each|every)\b[^.;]{0,40}\b(?:seeds?|runs?)\b[^.;]{0,30}\bbeats?\b[^.;]{0,20}#(\d+)", re.I
)
_QUOTED = re.compile(rf"#(\d+)\b[^\d#]{{0,12}}({NUMBER})")
_SUM = re.compile(rf"(?<![\w.#])(~?\s?{NUMBER}\s?(?:{UNIT})?)[\s`*]*\(([^()+]*\+[^()]*)\)", re.IGNORECASE)
_TOKENS = re.compile(
    rf"(?<![\w.])(?P<about>~|≈)?\s?(?P<number>{NUMBER})\s?(?P<scale>B|billion|M|million)?\s+(?:train(?:ing)? )?tokens"
    rf"[^()\d]{{0,30}}\((?P<steps>{NUMBER}) steps?\s*[x×*·]\s*(?P<batch>{NUMBER})[^()]*\)",
    re.IGNORECASE,
)
_SCALES = {"": 1.0, "m": 1e6, "million": 1e6, "b": 1e9, "billion": 1e9}
_LABELS = {
    "code": re.compile(r"\bcode size\b|\bcode bytes\b|\bbytes_code\b|^code\b", re.IGNORECASE),
    "model": re.compile(r"compressed (?:artifact|model)|serialized model|model bytes|\bmodel\.bin|^model\b", re.I),
    "total": re.compile(r"total submission|submission size|bytes_total|^total\b", re.IGNORECASE),
}


def check_sentences(document: Document) -> Iterator[Claim]:
    """Everything that sentences claim about the numbers of the text."""
    yield from _differences(document)
    for line in document.every_line:
        yield from _two_units(line)
        yield from _arrows(line)
        yield from _parts(line)
    quoted: dict[str, Number] = {}
    for line in document.lines:
        for match in _QUOTED.finditer(line.text):
            quoted.setdefault(match[1], read_numbers(match[2])[0])
    whole = [column for column in document.of_kind("bytes") if not re.search(r"\bcode\b", column.name, re.IGNORECASE)]
    for line in document.lines:
        yield from _ends(document, line)
        yield from _seed_again(document, line)
        if whole:
            yield from _cap(line, whole)
        yield from _all_beat(document, line, quoted)
    yield from _totals(document)


def _differences(document: Document) -> Iterator[Claim]:
    """Every difference that a paragraph claims, up to the limits; an UNKNOWN claim says where they are reached."""
    behind = (match for line in document.lines if (match := _FOREIGN.search(line.text)))
    scores = (read_numbers(match[1])[0] for match in behind)
    others = {score.text: score for score in scores if 0.3 < score.value < 10 and score.step < 2e-3}
    judged_so_far = 0
    for lines in document.paragraphs:
        claimed = [(line, number) for line in lines for number in line.numbers if _is_difference(line, number)]
        numbers = sum(len(line.numbers) for line in lines)
        if claimed and numbers > MAX_PARAGRAPH:
            words = (
                f"a paragraph of {numbers} numbers; differences are looked for where there are up to {MAX_PARAGRAPH}"
            )
            yield left_out(lines[0].number, words)
            continue
        judged_so_far += len(claimed)
        if judged_so_far > MAX_DIFFERENCES:
            words = f"the text claims more than {MAX_DIFFERENCES} differences; those from here on are not checked"
            yield left_out(lines[0].number, words)
            return
        paragraph = _Paragraph(document, lines, list(others.values())[:MAX_OTHERS])
        for line, number in claimed:
            yield from _difference(paragraph, line, number)


class _Paragraph:
    """What its differences may be taken between, read once; ``others``: scores of other submissions in the text."""

    def __init__(self, document: Document, lines: list[Line], others: list[Number]) -> None:
        self.document, self.others = document, others
        self.scores = read_numbers(" ".join(line.text for line in lines))
        self._foreign: dict[str, list[Number]] = {}

    def foreign(self, kind: str) -> list[Number]:
        """Absolute scores in its words, without those that are the text's own means or seeds."""
        if kind not in self._foreign:
            found: dict[str, Number] = {}
            for number in self.scores:
                bare = not number.kind and number.step < 2e-3
                fits = 0.3 < number.value < 10 and not number.signed and number.step < 2e-2
                if fits and (number.kind == kind or bare) and not self._is_own(number, kind):
                    found.setdefault(number.text.split()[0], number)
            self._foreign[kind] = list(found.values())
        return self._foreign[kind]

    def _is_own(self, number: Number, kind: str) -> bool:
        return any(
            number.admits(c.mean.low, c.mean.high) or any(number.admits(v.low, v.high) for v in c.values)
            for c in self.document.of_kind(kind)
        )


def _is_difference(line: Line, number: Number) -> bool:
    around = line.text[max(0, number.start - 40) : number.end + 40]
    if number.kind not in ("bpb", "nats") or "±" in line.text[max(0, number.start - 3) : number.start + 1]:
        return False
    small = abs(number.value) < 0.2
    return small and (number.signed or number.unit.lower() == "mbpb" or bool(_GAIN.search(around)))


def _difference(paragraph: _Paragraph, line: Line, claimed: Number) -> Iterator[Claim]:
    document, here = paragraph.document, quote(line.text, claimed)
    around = line.text[max(0, claimed.start - 25) : claimed.end + 35]
    over_seeds = re.search(r"\b(?:mean|average)\b", around, re.IGNORECASE) or re.search(r"\bacross \d+ seeds", around)
    if over_seeds and not _RIVAL.search(line.text[claimed.end : claimed.end + 60]):
        yield _mean_difference(document, line, claimed, here)
        return
    foreign = paragraph.foreign(claimed.kind)
    size = dataclasses.replace(claimed, value=abs(claimed.value), signed=False)
    for score in [*foreign, *(paragraph.others if claimed.kind == "bpb" else [])]:
        for column in document.of_kind(claimed.kind):
            span = _gap(score, column.mean.low, column.mean.high)
            if size.admits(*span):
                words = f"mean of {column.name} against {score.text.strip()} gives {{}}"
                yield judged(line.number, here, "difference", size, *span, words)
                return
    for a, b in combinations(foreign, 2):
        if size.admits(*(span := _gap(a, b.low, b.high))):
            words = f"{a.text.strip()} against {b.text.strip()} gives it"
            yield judged(line.number, here, "difference", size, *span, words)
            return
    forced = _must_be(paragraph, line, claimed)
    if forced is not None:
        low, high, words = forced
        claim = judged(line.number, here, "difference", size, low, high, f"{words} gives {{}}")
        from msgspec.structs import replace

        yield replace(claim, claimed=claimed.text)
        return
    text = "what it is taken between is not in this text"
    yield Claim(line.number, here, "difference", Verdict.UNKNOWN, text, claimed.text)


def _must_be(paragraph: _Paragraph, line: Line, claimed: Number) -> tuple[float, float, str] | None:
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


def _rival(paragraph: _Paragraph, before: str, after: str, claimed: Number) -> Number | None:
    """The other submission's score that a difference in bpb is taken against."""
    if claimed.kind != "bpb":
        return None
    behind = re.search(rf"\(({NUMBER})[^()]*\)\s*by\s*$", before)
    ahead = re.match(rf"[^.;]{{0,60}}?\b(?:vs\.?|over|against|than)\s+PR #\d+\)?\s*\(({NUMBER})", after, re.IGNORECASE)
    named = behind or ahead
    if named:
        found = read_numbers(named[1])
        return found[0] if found and 0.3 < found[0].value < 10 else None
    scores = paragraph.foreign("bpb") or paragraph.others
    one = len({score.value for score in scores}) == 1
    return scores[0] if one and _TOWARDS.search(before[-25:] + after[:35]) else None


def _mean_difference(document: Document, line: Line, claimed: Number, here: str) -> Claim:
    """ "mean +0.7 mBPB across 3 seeds": the difference between the means of two columns of one table."""
    size = dataclasses.replace(claimed, value=abs(claimed.value), signed=False)
    pairs = [(a, b) for a, b in combinations(document.of_kind(claimed.kind), 2) if a.table is b.table]
    what = "difference of means"
    if not pairs:
        text = "no two columns of seeds give it"
        return Claim(line.number, here, what, Verdict.UNKNOWN, text, claimed.text)
    spans = []
    for a, b in pairs:
        low, high = a.mean.low - b.mean.high, a.mean.high - b.mean.low
        low, high = (low, high) if a.mean.value >= b.mean.value else (-high, -low)
        spans.append((abs(abs(a.mean.value - b.mean.value) - size.value), a, b, max(low, 0.0), high))
    fitting = [span for span in spans if size.admits(span[3], span[4])]
    _, a, b, low, high = min(fitting or spans, key=lambda span: span[0])
    right = size.like(abs(a.mean.value - b.mean.value))
    words = f"the means of {a.name} and {b.name} differ by {{}} as printed"
    return judged(line.number, here, what, size, low, high, words, right)


def _gap(score: Number, low: float, high: float) -> tuple[float, float]:
    first, last = score.low - high, score.high - low
    return (first, last) if first + last >= 0 else (-last, -first)


def _ends(document: Document, line: Line) -> Iterator[Claim]:
    """Best and worst seeds, and their spread."""
    found = [(match[0], match[1], match[2]) for match in _EXTREME.finditer(line.text)]
    found += [(match[0], match[2], match[1]) for match in _BEHIND.finditer(line.text)]
    for words, which, number in found:
        claimed = read_numbers(number)[0]
        if OTHERS.search(line.text[: line.text.index(words)][-40:]):
            continue
        kind = claimed.kind or ("bpb" if claimed.step < 1e-2 and 0.3 < claimed.value < 10 else "bytes")
        lowest = which.lower() in ("best", "lowest", "smallest", "min", "minimum")
        near = [
            (abs(column.end(lowest=lowest).value - claimed.value), i, column)
            for i, column in enumerate(document.of_kind(kind))
            if abs(column.mean.value - claimed.value) <= NEAR * abs(column.mean.value)
        ]
        if near:
            _, _, column = min(near)
            end, name = column.end(lowest=lowest), f"{which.lower()} of {column.name}"
            claimed = dataclasses.replace(claimed, kind=kind)
            yield judged(line.number, words, name, claimed, end.low, end.high, f"the {name} is {end.text}")
    for match in _SPREAD.finditer(line.text):
        claimed = read_numbers(match[1])[0]
        spans = []
        for i, column in enumerate(document.of_kind("bpb")):
            least, most = column.end(lowest=True), column.end(lowest=False)
            low, high = most.low - least.high, most.high - least.low
            spans.append((not claimed.admits(low, high), abs((low + high) / 2 - claimed.value), i, column, low, high))
        if spans:
            *_, column, low, high = min(spans)
            yield judged(line.number, match[0], "spread of the seeds", claimed, low, high, f"{column.name} spans {{}}")


def _cap(line: Line, columns: list[Column]) -> Iterator[Claim]:
    """How much of the cap is used or left, and whether every seed fits."""
    values = [value.value for column in columns for value in column.values]
    worst, candidates = max(values), [*values, *(column.mean.value for column in columns)]
    for match in _LEFT.finditer(line.text):
        claimed = read_numbers(match[1] or match[2])[0]
        left = [CAP_BYTES - size for size in candidates]
        if claimed.value < 0.2 * CAP_BYTES:
            yield _one_of(line.number, match[0], "room under the cap", claimed, left, CAP_BYTES - worst, "leaves")
    for match in _SHARE.finditer(line.text):
        claimed = read_numbers(match[1])[0]
        shares, here = [100 * size / CAP_BYTES for size in candidates], line.text if len(line.text) < 80 else match[0]
        if claimed.value > 80:
            yield _one_of(line.number, here, "share of the cap", claimed, shares, 100 * worst / CAP_BYTES, "uses")
    fits, margin = _FITS.search(line.text), _MARGIN.search(line.text)
    if fits and _ALL.search(line.text):
        over, text = worst > CAP_BYTES, f"the largest has {worst:,.0f} bytes"
        right = ("fits", f"{worst - CAP_BYTES:,.0f} bytes over") if over else ("", "")
        verdict = Verdict.FAIL if over else Verdict.PASS
        yield Claim(line.number, fits[0], "every seed under the cap", verdict, text, *right)
    if margin:
        given = sorted(read_numbers(margin[i])[0].value for i in (1, 2))
        ends = [CAP_BYTES - worst, CAP_BYTES - min(values)]
        shown, verdict = f"{ends[0]:,.0f} to {ends[1]:,.0f} bytes", Verdict.PASS if given == ends else Verdict.FAIL
        yield Claim(line.number, margin[0], "margins to the cap", verdict, f"are {shown}", margin[0], shown)


def _one_of(line: int, here: str, what: str, claimed: Number, known: list[float], worst: float, verb: str) -> Claim:
    value = next((x for x in known if claimed.admits(x, x)), worst)
    text = f"the worst seed {verb} {claimed.like(worst)}"
    return judged(line, here, what, claimed, value, value, text)


def _two_units(line: Line) -> Iterator[Claim]:
    """ "15,878,809 bytes (15.1 MB)": the same size twice, so both must agree; MB are 10^6, MiB 2^20 bytes."""
    for match in _TWICE.finditer(line.text):
        first, second = read_numbers(match[1])[0], read_numbers(match[2])[0]
        if not first.kind or first.kind != second.kind or first.unit == second.unit:
            continue
        what, right = f"{first.text} in {second.unit}", second.like(first.value)
        low, high = (first.value, first.value) if first.whole else (first.low, first.high)
        binary = second
        if second.unit.lower() in ("kb", "mb", "gb"):
            ratio = 1.024 ** ("kmg".index(second.unit.lower()[0]) + 1)
            binary = dataclasses.replace(second, value=second.value * ratio, half=second.half * ratio)
        if not second.admits(low, high) and binary.admits(low, high):
            text = (
                f"{second.text} are {second.unit[0]}i{second.unit[1:]}; in decimal units, in which the cap is stated,"
            )
            yield Claim(line.number, match[0], what, Verdict.WARN, f"{text} it is {right}", second.text, right)
        else:
            yield judged(line.number, match[0], what, second, low, high, f"{first.text} are {right}", right)


def _arrows(line: Line) -> Iterator[Claim]:
    """ "1.2172 → 1.1925 (-0.0247)" and "(-2.0%)"."""
    for match in _ARROW.finditer(line.text):
        old, new = read_numbers(match[1])[0], read_numbers(match[2])[0]
        claimed = read_numbers(f"{match[3]} {match[4] or ''}".strip())[0]
        low, high = new.low - old.high, new.high - old.low
        if claimed.unit == "%":
            if not old.low > 0:
                continue
            low, high = 100 * (new.low / old.high - 1), 100 * (new.high / old.low - 1)
        if low + high < 0 < claimed.value or claimed.value < 0 < low + high:
            low, high = -high, -low
        yield judged(line.number, match[0], "difference", claimed, low, high, "is {}")


def _parts(line: Line) -> Iterator[Claim]:
    """Sums and products that a line spells out: "15,859,538 bytes (code: 58,672 + model: 15,800,866)"."""
    for match in _SUM.finditer(line.text):
        total, found = read_numbers(match[1])[0], [read_numbers(part) for part in match[2].split("+")]
        if any(len(part) != 1 for part in found) or not (total.kind or (total.whole and total.value >= 1000)):
            continue
        parts = [part[0] for part in found]
        if any(part.kind not in ("", total.kind) or (total.unit != part.unit and not part.whole) for part in parts):
            continue
        low, high = sum(part.low for part in parts), sum(part.high for part in parts)
        if all(part.whole for part in parts) and total.whole:
            low = high = (low + high) / 2
        if abs((low + high) / 2 - total.value) <= 0.2 * abs(total.value):
            yield judged(line.number, match[0], "sum of its parts", total, low, high, "the parts give {}")
    for match in _TOKENS.finditer(line.text):
        scale = _SCALES[(match["scale"] or "").lower()]
        claimed = read_numbers(f"{match['about'] or ''}{match['number']}")[0]
        right = read_numbers(match["steps"])[0].value * read_numbers(match["batch"])[0].value / scale
        shown, what = f"{claimed.like(right).strip()}{match['scale'] or ''}", "tokens = steps × tokens a step"
        yield judged(line.number, match[0], what, claimed, right, right, "are {}", shown)


def _seed_again(document: Document, line: Line) -> Iterator[Claim]:
    """ "seed 1337 (1.1441, 15,930,191 B)": quoted from that seed's row."""
    for match in _SEED_PAREN.finditer(line.text):
        seed = int(match[1])
        for number in read_numbers(match[2]):
            near = [
                (abs(value.value - number.value), i, column, value)
                for i, (column, value) in enumerate(document.values_by_seed.get(seed, ()))
                if abs(value.value - number.value) <= 0.01 * abs(value.value)
                and (not number.kind or number.kind == column.kind)
            ]
            if near and not (number.step >= 1 and not number.kind and "," not in number.text):
                *_, column, value = min(near)
                text = f"{column.name} of seed {seed} is {value.text}"
                what = f"seed {seed} quoted again"
                yield judged(line.number, match[0], what, number, value.low, value.high, text, value.text)


def _all_beat(document: Document, line: Line, quoted: dict[str, Number]) -> Iterator[Claim]:
    match = _BEAT_ALL.search(line.text)
    column = document.final_column("bpb")
    score = quoted.get(match[1]) if match else None
    if match and column is not None and score is not None:
        worst = column.end(lowest=False)
        text, right = f"the worst seed has {worst.text}, #{match[1]} has {score.text}", ("beats", worst.text)
        beats = worst.value < score.value
        verdict = Verdict.PASS if beats else Verdict.FAIL
        yield Claim(line.number, match[0], "every seed beats it", verdict, text, *(("", "") if beats else right))


@dataclass(frozen=True)
class _Entry:
    line: int
    label: str
    kind: str
    value: Number


def _totals(document: Document) -> Iterator[Claim]:
    """Each stated total of bytes whose code and model stand close by; further parts may stand there too."""
    entries = {entry.line: entry for entry in _entries(document)}
    for total in (entry for entry in entries.values() if entry.kind == "total"):
        near = [entries[at] for at in range(total.line - 8, total.line + 9) if at in entries]
        models, codes = ([entry for entry in near if entry.kind == kind] for kind in ("model", "code"))
        if len(codes) != 1 or not models:
            continue
        stated = total.value.value
        right = min((model.value.value + codes[0].value.value for model in models), key=lambda x: abs(x - stated))
        if abs(right - stated) > 0.05 * stated:
            continue
        others = [entry for entry in near if entry.kind == "other"]
        groups = (group for n in (0, 1, 2, 3) for group in combinations(others, n))
        more = next((group for group in groups if sum(e.value.value for e in group) == stated - right), None)
        text = f"code + model = {right:,.0f} bytes"
        if more:
            text = f"with {' + '.join(entry.label.split(':')[0].strip() for entry in more)} it is {total.value.text}"
        right = right if more is None else stated
        what = "total = code + model"
        yield judged(total.line, total.label, what, total.value, right, right, text, f"{right:,.0f}")


def _entries(document: Document) -> Iterator[_Entry]:
    for line in document.every_line:
        cells = [cell.strip() for cell in line.text.split(" | ")]
        label, value = cells[0], read_one(cells[1]) if len(cells) == 2 else None
        if value is None:
            label = re.sub(r"^[-*\s]+", "", line.text)
            values = [q for q in line.numbers if q.whole and q.value >= 1000]
            if len(values) != 1:
                continue
            value = values[0]
        kind = next((kind for kind, pattern in _LABELS.items() if pattern.search(label.split(":")[0])), "other")
        if value.whole:
            yield _Entry(line.number, label, kind, value)
