"""What a check of a folder says: one finding a fact, with file, line, value found and value computed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from harness.errors import ExitCode
from harness.rules import Verdict

ORDER = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.UNKNOWN, Verdict.PASS)
"""Verdicts, gravest first."""
FACTS = ("claimed_bpb", "logged_mean_bpb", "seeds", "largest_bytes", "longest_train_s", "longest_eval_s")
"""Names of a report's main figures."""


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finding.

    file, line:      where, relative to the folder; line 0 means the whole file, no file means the folder
    found, computed: the value that stands there, and what the other evidence gives, both as text with units
    confidence:      "certain" (read or computed), "likely" or "hint" (patterns in code)
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

    @property
    def key(self) -> str:
        """Identity across runs, for ``--baseline``: rule, verdict, file and values, but neither line nor wording."""
        text = "\0".join((self.rule, self.verdict.value, self.file, self.found, self.computed))
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


class FolderReport(msgspec.Struct, frozen=True):
    """All findings on one folder. ``folder`` is the path as given; ``facts`` holds the main figures for the summary."""

    folder: str
    track: str
    findings: list[Found]
    facts: dict[str, float | int | str | None]

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict among the findings."""
        return worst(item.verdict for item in self.findings)

    def count(self, verdict: Verdict) -> int:
        """How many findings have this verdict."""
        return sum(item.verdict is verdict for item in self.findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of the verdicts; PASS when there is none. UNKNOWN alone does not outweigh PASS."""
    present = set(verdicts)
    for verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
        if verdict in present:
            return verdict
    return Verdict.PASS if Verdict.PASS in present or not present else Verdict.UNKNOWN


def exit_code_of(reports: Iterable[FolderReport]) -> ExitCode:
    """1 when a rule is broken, else 3 when something could not be checked, else 0."""
    verdicts = {report.verdict for report in reports}
    if Verdict.FAIL in verdicts:
        return ExitCode.RULE_BROKEN
    return ExitCode.COULD_NOT_CHECK if Verdict.ERROR in verdicts else ExitCode.GOOD


class Findings:
    """Collects findings. Each method takes the rule id, one sentence, and the evidence by name."""

    def __init__(self) -> None:
        self.items: list[Found] = []

    def add(
        self,
        verdict: Verdict,
        rule: str,
        message: str,
        *,
        file: str = "",
        line: int = 0,
        found: object = "",
        computed: object = "",
        remedy: str = "",
        confidence: str = "certain",
    ) -> None:
        """Keep one finding; at most :data:`MAX_PER_RULE` a rule and verdict, so that no folder can flood a report."""
        same = sum(item.rule == rule and item.verdict is verdict for item in self.items)
        if same >= MAX_PER_RULE:
            return
        self.items.append(
            Found(rule, verdict, message, file, line, str(found)[:300], str(computed)[:300], remedy, confidence)
        )

    def passed(self, rule: str, message: str, *, file: str = "", line: int = 0, found: object = "") -> None:
        """The rule holds."""
        self.add(Verdict.PASS, rule, message, file=file, line=line, found=found)

    def warn(
        self,
        rule: str,
        message: str,
        *,
        file: str = "",
        line: int = 0,
        found: object = "",
        computed: object = "",
        remedy: str = "",
        confidence: str = "certain",
    ) -> None:
        """Doubtful, or a disputed reading."""
        self.add(
            Verdict.WARN,
            rule,
            message,
            file=file,
            line=line,
            found=found,
            computed=computed,
            remedy=remedy,
            confidence=confidence,
        )

    def fail(
        self,
        rule: str,
        message: str,
        *,
        file: str = "",
        line: int = 0,
        found: object = "",
        computed: object = "",
        remedy: str = "",
        confidence: str = "certain",
    ) -> None:
        """The rule is broken."""
        self.add(
            Verdict.FAIL,
            rule,
            message,
            file=file,
            line=line,
            found=found,
            computed=computed,
            remedy=remedy,
            confidence=confidence,
        )

    def unknown(self, rule: str, message: str, *, file: str = "", remedy: str = "") -> None:
        """Cannot be known from what the folder holds."""
        self.add(Verdict.UNKNOWN, rule, message, file=file, remedy=remedy)

    def failed(self, rule: str) -> bool:
        """Whether the rule has a FAIL or WARN already."""
        return any(item.rule == rule and item.verdict in (Verdict.FAIL, Verdict.WARN) for item in self.items)


MAX_PER_RULE = 12
