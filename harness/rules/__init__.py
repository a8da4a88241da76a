"""The rule catalogue: one id ties rule text, enforcing code, verdict and breaking test together.

``catalogue/*.toml`` holds the texts. Code names an id as a plain string through :func:`rule`, which refuses
unknown ids, and reports what it saw as a :class:`Finding`. The order of verdicts, and the exit code of a list of them,
have their one home here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import TypeVar

import msgspec

from harness.errors import ExitCode, UsageError

Form = TypeVar("Form")


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


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: ``id``, a ``title`` of a few words, its ``text``, where it comes from, and who enforces it.

    source:      section of the public rules or issue number
    enforced_by: "construction" (cannot be broken), "measurement", "audit" (with a bound) or "reading" (of a folder)
    enforced_in: the function that does it, "module:function"; it names the id
    tested_by:   file of the repository with the cheat, or the test, that breaks the rule
    remedy:      what an author changes to comply
    """

    id: str
    title: str
    text: str
    source: str
    enforced_by: str
    enforced_in: str
    tested_by: str
    remedy: str = ""


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


def read_tables(folder: str, form: type[Form]) -> list[Form]:
    """The entries of every TOML file in a folder of this package, by file name and order."""
    files = sorted(resources.files(__name__).joinpath(folder).iterdir(), key=lambda entry: entry.name)
    texts = [entry.read_bytes() for entry in files if entry.name.endswith(".toml")]
    tables = [msgspec.toml.decode(text, type=dict[str, list[form]]) for text in texts]  # type: ignore[valid-type]
    return [entry for table in tables for entries in table.values() for entry in entries]


@cache
def catalogue() -> dict[str, Rule]:
    """All rules by id, in file order."""
    return {entry.id: entry for entry in read_tables("catalogue", Rule)}


def title_of(rule_id: str) -> str:
    """Its title; records of others name rules of other versions, too."""
    return catalogue()[rule_id].title if rule_id in catalogue() else "not a rule of this version"


def rule(rule_id: str) -> Rule:
    """The rule with this id. Raises ``UsageError`` for an unknown id."""
    try:
        return catalogue()[rule_id]
    except KeyError:
        raise UsageError(
            f"unknown rule id {rule_id!r}.", remedy="`harness check --explain list` lists the ids."
        ) from None
