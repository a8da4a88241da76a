"""What a folder says of itself in words: methods that the rules forbid or dispute, and seeds chosen by their score."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.public.record import Record
from harness.rules import Verdict

FIELDS = re.compile(r"name|blurb|descri|techni|summary|criterion|method|changes", re.IGNORECASE)
METHODS: tuple[tuple[re.Pattern[str], str, Verdict, str], ...] = (
    (
        re.compile(r"SUBSET_TOKENS\W{1,3}[1-9]\d{4,}"),
        "C4-COVERAGE",
        Verdict.WARN,
        "a part of the tokens is scored by the claimed method",
    ),
    (
        re.compile(
            r"\bval[- ]only\b"
            r"|\btrain(?:ed|ing|s)? (?:\w+ )?on (?:the )?val(?:idation)?(?: shards?| set| data| split| tokens)",
            re.IGNORECASE,
        ),
        "A4-TRAIN-NO-VAL",
        Verdict.FAIL,
        "training on validation data",
    ),
    (
        re.compile(r"\bpaid[- _]?prefix|\bval(?:idation)? (?:token )?prefix (?:blob|covering)", re.IGNORECASE),
        "A4-PAID-PREFIX",
        Verdict.FAIL,
        "validation text stored in the artifact",
    ),
    (
        re.compile(r"\bpre[- ]?quant(?:i[sz]ation)?\b[\w ()+-]{0,20}\bTTT\b", re.IGNORECASE),
        "A6-PREQUANT-TTT",
        Verdict.FAIL,
        "adaptation on validation tokens before quantisation",
    ),
    (
        re.compile(
            r"(?:last|final)[- ]epoch[- ](?:only )?scor|only records? scores? on the (?:final|last) epoch",
            re.IGNORECASE,
        ),
        "C3-SCORE-BEFORE-UPDATE",
        Verdict.WARN,
        "scores taken in the last of several epochs over the same tokens",
    ),
    (re.compile(r"\bSLOT\b"), "C3-SCORE-BEFORE-UPDATE", Verdict.WARN, "SLOT, which optimises on scored positions"),
    (
        re.compile(
            r"n-?gram\W?\w{0,14}\W?(?:cache|mix|back-?off)|back-?off\W?n-?gram|\beval(?:-time)? cache",
            re.IGNORECASE,
        ),
        "C2-NORMALISED",
        Verdict.WARN,
        "an n-gram cache, whose blend has to sum to one over the vocabulary",
    ),
    (
        re.compile(r"\bPPM\b|\bPPM-?D\b"),
        "C2-NORMALISED",
        Verdict.WARN,
        "a byte model (PPM), not normalised over tokens",
    ),
    (
        re.compile(r"\bcase-?fold|\blower-?cased? (?:tokeni[sz]er|text|vocab)", re.IGNORECASE),
        "A7-TOKENIZER",
        Verdict.WARN,
        "text changed before it is tokenised, which can't be undone (#1578)",
    ),
    (
        re.compile(r"\btwo[- ]pass\b|\brescor", re.IGNORECASE),
        "C4-SINGLE-PASS",
        Verdict.WARN,
        "a second pass or rescoring",
    ),
)
ANYWHERE = {message for _, _, _, message in METHODS if message.startswith(("scores taken", "a part of"))}
"""Messages of plain statements, which count in a README's body too."""
DENIED = re.compile(
    r"\b(?:no|not|non|never|without|nor|isn't|doesn't|instead|unlike|avoid\w*|replac\w+|remov\w+|exclud\w+|illegal|banned|"
    r"disabled|vs|versus|ruled out|free of)\b[^.;|]{0,25}$",
    re.IGNORECASE,
)
SELECTED = re.compile(
    r"\bbest (\d+|two|three|five) (?:seeds )?(?:out )?of \w+\b|\b(\d+)-best\b|lowest[- ]val_bpb|seeds with lowest"
    r"|\bbest \w+ (?:across|of|over|among) (?:\d+|two|three|four|five) (?:seeds|runs)\b",
    re.IGNORECASE,
)
BEST = re.compile(r"(?:submitted|reported)(?: run| seed)?\W{1,4}seed \d+ \(best\)", re.IGNORECASE)


def check(record: Record) -> None:
    """Both, in the JSON's texts and in the README."""
    for rule, verdict, message, file, line, text in _methods(record):
        record.out.add(
            verdict,
            rule,
            f"the folder's own words: {message}.",
            file=file,
            line=line,
            found=text.strip()[:160],
            remedy="Leave it out, or say why it is within the rules.",
            confidence="likely",
        )
    _selected(record)


def _texts(record: Record) -> Iterator[tuple[str, int, str, bool]]:
    """File, line, text, and whether the text is about this record as a whole: JSON fields and headings are."""
    if record.metadata is not None:
        for key, value in record.metadata.raw.items():
            if FIELDS.search(key):
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str):
                        yield record.json_file, record.metadata.lines.get(key, 0), text[:4_000], True
    if record.readme is not None:
        title = True
        for number, line in enumerate(record.readme.text.splitlines(), 1):
            yield record.readme_file, number, line, title and line.startswith("#")
            title = title and not line.startswith("#")


def _methods(record: Record) -> Iterator[tuple[str, Verdict, str, str, int, str]]:
    """At most one hit a method. A README's body compares with other records, so there only plain statements count."""
    seen: set[str] = set()
    for file, line, text, own in _texts(record):
        for pattern, rule, verdict, message in METHODS:
            if message in seen or not (own or message in ANYWHERE):
                continue
            hit = pattern.search(text)
            if hit and not DENIED.search(text[: hit.start()]):
                seen.add(message)
                yield rule, verdict, message, file, line, text[max(0, hit.start() - 60) :]


def _selected(record: Record) -> None:
    told: set[str] = set()
    for file, line, text, _ in _texts(record):
        if file not in told and (SELECTED.search(text) or BEST.search(text)):
            told.add(file)
            record.out.warn(
                "A8-SEEDS",
                "the text says that runs were chosen by their score.",
                file=file,
                line=line if file == record.readme_file else 0,
                found=text.strip()[:160],
                remedy="Report all runs.",
                confidence="likely",
            )
