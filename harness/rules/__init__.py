"""The rule catalogue: one id ties rule text, enforcing code, verdict and breaking test together.

``catalogue/*.toml`` holds the texts and a lesson on each. Code names an id as a plain string through :func:`rule`,
which refuses unknown ids, and reports what it saw as a :class:`Finding`. The order of verdicts, and the exit code of a
list of them, have their one home here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib import resources

import msgspec

from harness.errors import ExitCode, UsageError


class Verdict(StrEnum):
    """What a check concluded.

    PASS: the rule holds. WARN: a disputed reading. FAIL: the rule is broken.
    ERROR: could not be checked. UNKNOWN: cannot be known from what was given.
    """

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    ERROR = "ERROR"
    UNKNOWN = "UNKNOWN"


class Lesson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a rule is taught: ``why`` it matters, and an example of our own ``before`` (breaks it) and ``after``."""

    why: str
    before: str
    after: str


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: ``id``, a ``title`` of a few words, its ``text``, where it comes from, and who enforces it.

    source:      section of the public rules or issue number
    enforced_by: "construction" (cannot be broken), "measurement", "audit" (with a bound) or "reading" (of a folder)
    enforced_in: the function that does it, "module:function"; it names the id
    tested_by:   file of the repository with the cheat, or the test, that breaks the rule
    remedy:      what an author changes to comply
    required:    whether every refereed record has a verdict on it, since there are records
    """

    id: str
    title: str
    text: str
    source: str
    enforced_by: str
    enforced_in: str
    tested_by: str
    lesson: Lesson
    remedy: str = ""
    required: bool = False


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One verdict on one rule: where, what was found, what was wanted, and the way out."""

    rule: str
    verdict: Verdict
    message: str
    where: str = ""
    found: str = ""
    wanted: str = ""
    remedy: str = ""


SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.UNKNOWN, Verdict.PASS)
"""Worst first."""


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict among ``findings``; PASS when there are none."""
    verdicts = {finding.verdict for finding in findings}
    return next((verdict for verdict in SEVERITY if verdict in verdicts), Verdict.PASS)


def exit_code_of(findings: Iterable[Finding]) -> ExitCode:
    """0 pass or warn, 1 something failed, 3 something could not be checked."""
    codes = {Verdict.FAIL: ExitCode.RULE_BROKEN, Verdict.ERROR: ExitCode.COULD_NOT_CHECK}
    return codes.get(worst(findings), ExitCode.GOOD)


@cache
def catalogue() -> dict[str, Rule]:
    """All rules by id, by the name of their file and in its order."""
    files = sorted(resources.files(__name__).joinpath("catalogue").iterdir(), key=lambda entry: entry.name)
    tables = [msgspec.toml.decode(entry.read_bytes(), type=dict[str, list[Rule]]) for entry in files]
    return {entry.id: entry for table in tables for entry in table["rule"]}


def title_of(rule_id: str) -> str:
    """The title of a rule that a record names; it may be one of another version."""
    return catalogue()[rule_id].title if rule_id in catalogue() else "not a rule of this version"


def rule(rule_id: str) -> Rule:
    """The rule with this id. Raises ``UsageError`` for an unknown id."""
    try:
        return catalogue()[rule_id]
    except KeyError:
        raise UsageError(
            f"unknown rule id {rule_id!r}.", remedy="`harness check --explain list` lists the ids."
        ) from None
