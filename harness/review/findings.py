"""What a check of a folder says, and the readings of disputed rules that it goes by."""

import hashlib
from collections.abc import Iterable
from functools import partialmethod
from typing import Literal

import msgspec

from harness.errors import ExitCode, UsageError
from harness.fineweb import CAP_BYTES, CEILING, FLOOR
from harness.review.number import read_numbers
from harness.review.patterns import PATTERNS
from harness.rules import SEVERITY, Verdict, catalogue

BLOCKING = PATTERNS.blocking
"""Rules whose FAIL blocks unless ``--block`` says otherwise: docs/reviewing.md has the precision of each."""
MAX_MORE = 60


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding: what was found under one rule, for one cause.

    file, line:      where, relative to the folder; line 0 means the whole file, no file means the folder
    found, computed: the value that stands there, and what the other evidence gives, both as text with units
    confidence:      "certain" (read or computed), "likely" or "hint" (patterns in code)
    more:            further places of the same rule and verdict, one line each
    """

    rule: str
    verdict: Verdict
    message: str
    file: str = ""
    line: int = 0
    found: str = ""
    computed: str = ""
    remedy: str = ""
    confidence: str = "certain"
    more: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identity across runs, for ``--baseline``: rule, verdict, file and values, but neither line nor wording."""
        text = "\0".join((self.rule, self.verdict.value, self.file, self.found, self.computed, *self.more))
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


class FolderReport(msgspec.Struct, frozen=True):
    """All findings on one folder. ``folder`` is the path as given; ``facts`` holds the main figures for the summary.

    written: figures as the folder writes them, under the names of ``facts``
    """

    folder: str
    track: str
    findings: list[Found]
    facts: dict[str, float | int | str | None] = {}
    written: dict[str, str] = {}

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict among the findings; UNKNOWN alone does not outweigh PASS."""
        graver = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN)
        return min((item.verdict for item in self.findings), key=graver.index, default=Verdict.PASS)

    def count(self, verdict: Verdict) -> int:
        """How many findings have this verdict."""
        return sum(item.verdict is verdict for item in self.findings)


def blocking_rules(words: str | None) -> frozenset[str]:
    """The rules that ``--block`` names: ids or their beginnings, "all" or "none". Raises ``UsageError`` for others."""
    if words is None:
        return frozenset(BLOCKING)
    ids, chosen = list(catalogue()), set[str]()
    for word in words.upper().replace(",", " ").split():
        hits = ids if word == "ALL" else [rule for rule in ids if rule == word or rule.startswith(f"{word}-")]
        if not hits and word != "NONE":
            raise UsageError(f"--block {word}: no such rule.", remedy="harness check --explain list names them.")
        chosen |= set(hits)
    return frozenset(chosen)


def exit_code_of(reports: Iterable[FolderReport], block: frozenset[str] = frozenset(BLOCKING)) -> ExitCode:
    """1 when a blocking rule is broken, else 3 when something could not be checked, else 0."""
    items = [item for report in reports for item in report.findings]
    if any(item.verdict is Verdict.FAIL and item.rule in block for item in items):
        return ExitCode.RULE_BROKEN
    return ExitCode.COULD_NOT_CHECK if any(i.verdict is Verdict.ERROR for i in items) else ExitCode.GOOD


class Findings:
    """Collects findings.

    passed: the rule holds; unknown: can't be known from what the folder holds; warn: doubtful, or a disputed reading;
    fail: the rule is broken, for certain. Each takes what :meth:`add` takes behind the verdict, which there may be the
    word whether it is certain: True for FAIL, False for WARN.
    """

    def __init__(self) -> None:
        self.items: list[Found] = []

    def add(
        self,
        verdict: Verdict | bool,
        rule: str,
        message: str,
        at: tuple[str, int] | str = "",
        found: object = "",
        computed: object = "",
        remedy: str = "",
        confidence: str = "certain",
    ) -> None:
        """Keep one finding. at: file, or file and line; remedy: where the rule's own does not fit."""
        file, line = (at, 0) if isinstance(at, str) else at
        verdict = (Verdict.FAIL if verdict else Verdict.WARN) if isinstance(verdict, bool) else verdict
        if verdict in (Verdict.FAIL, Verdict.WARN) and not remedy:
            remedy = catalogue()[rule].remedy
        shown = str(found)[:300], str(computed)[:300]
        self.items.append(Found(rule, verdict, message, file, line, *shown, remedy, confidence))

    passed, unknown = partialmethod(add, Verdict.PASS), partialmethod(add, Verdict.UNKNOWN)
    warn, fail = partialmethod(add, Verdict.WARN), partialmethod(add, Verdict.FAIL)

    def has(self, rule: str) -> bool:
        """Whether the rule has a FAIL or WARN already."""
        return any(i.rule == rule and i.verdict in (Verdict.FAIL, Verdict.WARN) for i in self.items)

    def merged(self) -> list[Found]:
        """One finding a rule and verdict, gravest first; further places of it stand in ``more``.

        A WARN of a rule that FAILs goes into the FAIL; PASS and UNKNOWN are dropped beside a graver verdict. A PASS
        shows the largest clock or size.
        """
        groups: dict[str, list[Found]] = {}
        for item in dict.fromkeys(self.items):
            groups.setdefault(item.rule, []).append(item)
        out = []
        for items in groups.values():
            items.sort(key=lambda item: (SEVERITY.index(item.verdict), item.file, item.line))
            worst = items[0].verdict
            kept = [i for i in items if i.verdict is worst or (worst is Verdict.FAIL and i.verdict is Verdict.WARN)]
            if worst is Verdict.PASS:  # of several runs the one with the largest figure
                kept.sort(key=lambda item: max((n.value for n in read_numbers(item.found)), default=0), reverse=True)
            head, more = kept[0], tuple(_short(item, kept[0]) for item in kept[1 : MAX_MORE + 1])
            out.append(msgspec.structs.replace(head, more=more if worst is not Verdict.PASS else ()))
        return sorted(out, key=lambda item: (SEVERITY.index(item.verdict), item.rule))


def _short(item: Found, head: Found) -> str:
    """One line on a further place; the message only where it says something else."""
    place = f"{item.file}:{item.line}" if item.line else item.file
    values = "; ".join(v for v in (item.found, f"computed {item.computed}" if item.computed else "") if v)
    parts = (place, item.message if item.message != head.message else "", values)
    return ": ".join(part.rstrip(".") for part in parts if part)


class Readings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the checks go by; every report names the values in force. Times in seconds, sizes in decimal bytes.

    artifact_cap_bytes:  code plus compressed model, for every seed
    train_cap_s:         the training loop's own clock
    train_overshoot_s:   above the cap and within this, WARN: the loop looks at its clock after each step
    eval_cap_s:          evaluation
    eval_clock:          what FAILs above the cap: "scorer" (the claimed pass), "sum" (all passes)
    calibration:         verdict when loop + Hessian collection on training data exceed the cap
    code_bytes:          "logged": the log's code size counts, and another size of the shipped file is WARN;
                         "shipped": model bytes plus the shipped files must fit
    byte_low, byte_high: bytes that the validation text may have (rules, A7)
    margin_nats, margin_unit: by how much a record must beat its predecessor, and in which unit
    alpha:               level of the test
    min_seeds:           seeds that a record shows
    floor_bpb:           a lower score is held for proof
    excerpt:             "accept": files that only FILES.json lists are UNKNOWN; "refuse": they are missing
    """

    artifact_cap_bytes: int = CAP_BYTES
    train_cap_s: float = 600.0
    train_overshoot_s: float = 0.2
    eval_cap_s: float = 600.0
    eval_clock: Literal["scorer", "sum"] = "scorer"
    calibration: Literal["WARN", "FAIL"] = "WARN"
    code_bytes: Literal["logged", "shipped"] = "logged"
    byte_low: int = FLOOR
    byte_high: int = CEILING
    margin_nats: float = 0.005
    margin_unit: Literal["nats/token", "nats/byte", "bpb"] = "nats/token"
    alpha: float = 0.01
    min_seeds: int = 3
    floor_bpb: float = 0.9
    excerpt: Literal["accept", "refuse"] = "accept"


def with_settings(settings: tuple[str, ...]) -> Readings:
    """The default readings with ``NAME=VALUE`` settings applied. Raises ``UsageError`` for an unknown name or value."""
    values: dict[str, object] = {}
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found or name not in Readings.__struct_fields__:
            names = ", ".join(Readings.__struct_fields__)
            raise UsageError(f"reading {setting!r} is not NAME=VALUE with a known name.", remedy=f"Names: {names}.")
        values[name] = value
    try:
        return msgspec.convert(values, Readings, strict=False)
    except msgspec.ValidationError as error:
        remedy = "`harness check folder --reading help` lists names and values."
        raise UsageError(f"--reading {' '.join(settings)}: {error}.", remedy=remedy) from error
