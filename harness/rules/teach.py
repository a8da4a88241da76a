"""``harness check --explain``: a rule taught with why it matters, who enforces it, and an example before and after."""

from __future__ import annotations

import ast
from pathlib import Path

import harness
from harness.errors import UsageError
from harness.rules import Rule, catalogue
from harness.text import templates


def matching(word: str) -> list[Rule]:
    """The rule with the id ``word``, or all rules of a section such as "A3". Raises ``UsageError`` when none fits."""
    wanted = word.strip().upper()
    rules = catalogue()
    if wanted in rules:
        return [rules[wanted]]
    section = [item for item in rules.values() if item.id.split("-")[0] == wanted]
    if not section:
        near = [item.id for item in rules.values() if wanted and wanted in item.id]
        raise UsageError(
            f"there is no rule {word!r}.",
            remedy=f"Near it: {', '.join(near[:5])}." if near else "`harness check --explain list` lists the ids.",
        )
    return section


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
