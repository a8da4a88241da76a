"""The rule catalogue: one id ties rule text, enforcing code, verdict and breaking test together.

``catalogue/*.toml`` holds the texts and a lesson on each, which ``harness check --explain`` shows. Code names an id as
a plain string through :func:`rule`, which refuses unknown ids, and reports what it saw as a :class:`Finding`. The order
of verdicts, and the exit code of a list of them, have their one home here.
"""

import ast
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path

import msgspec

import harness
from harness.errors import ExitCode, UsageError
from harness.text import templates


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


SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.UNKNOWN, Verdict.PASS)  # worst first


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
    files = sorted((Path(__file__).parent / "catalogue").glob("*.toml"))
    tables = [msgspec.toml.decode(path.read_bytes(), type=dict[str, list[Rule]]) for path in files]
    return {entry.id: entry for table in tables for entry in table["rule"]}


def title_of(rule_id: str) -> str:
    """The title of a rule that a record names; it may be one of another version."""
    return catalogue()[rule_id].title if rule_id in catalogue() else "not a rule of this version"


def rule(rule_id: str) -> Rule:
    """The rule with this id. Raises ``KeyError`` for an unknown one: only code names an id this way."""
    return catalogue()[rule_id]


def matching(word: str) -> list[Rule]:
    """The rule with the id ``word``, or all rules of a section such as "A3". Raises ``UsageError`` when none fits."""
    wanted = word.strip().upper()
    if found := [item for item in catalogue().values() if wanted in (item.id, item.id.split("-")[0])]:
        return found
    near = ", ".join([name for name in catalogue() if wanted and wanted in name][:5])
    remedy = f"Near it: {near}." if near else "`harness check --explain list` lists the ids."
    raise UsageError(f"no rule is named {word!r}.", remedy=remedy)


def enforcing_code(item: Rule) -> tuple[Path, int, str]:
    """Where a rule is enforced: path from the folder that holds ``harness``, line, source of the function.

    The file is read and not imported.
    """
    module, _, function = item.enforced_in.partition(":")
    path = Path(*module.split(".")).with_suffix(".py")
    source = (Path(harness.__file__).parents[1] / path).read_text()
    node: ast.AST = ast.parse(source)
    for name in function.split("."):
        node = next(found for found in ast.walk(node) if getattr(found, "name", None) == name)
    assert isinstance(node, ast.FunctionDef)
    return path, node.lineno, ast.get_source_segment(source, node) or ""


def explain(item: Rule) -> str:
    """One rule as plain text: id, text, source, how, where and by which test it is enforced, why, remedy, example."""
    path, line, _ = enforcing_code(item)
    template = templates(Path(__file__).parent).get_template("rule.txt.jinja")
    return template.render(item=item, path=path, line=line).strip()
