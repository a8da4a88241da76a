"""The rule catalogue ties text, code and tests together by id; and one name is one thing."""

import re
from collections import Counter
from pathlib import Path

import pytest

from harness.rules import catalogue, enforcing_code, explain, rule

ROOT = Path(__file__).parents[3]
ID = re.compile(r"[\"'`]([ACRS]\d{1,2}-[A-Z][A-Z0-9-]+)[\"'`]")


def ids_named_in(folder: str) -> set[str]:
    files = [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("patterns.toml")]
    return {found for path in files for found in ID.findall(path.read_text())}


@pytest.mark.parametrize("item", catalogue().values(), ids=lambda item: item.id)
def test_a_rule_leads_to_its_text_its_example_its_code_and_its_test(item):
    assert re.fullmatch(r"[A-Z]\d{1,2}-[A-Z0-9]+(-[A-Z0-9]+)*", item.id)
    assert item.text.endswith(".")
    assert item.source
    assert item.enforced_by in {"construction", "measurement", "audit", "reading"}
    assert item.lesson.before.strip() != item.lesson.after.strip()
    path, line, source = enforcing_code(item)
    named = [item.id]
    if "review" in path.parts and item.id in (ROOT / "harness/review/patterns.toml").read_text():
        named.append("PATTERNS")  # its functions may go through the table of patterns
    assert re.search(rf"\b({'|'.join(named)})\b", source), f"the function in {path}:{line} does not name the rule"
    wanted = rf'^RULE\b.* "{item.id}"' if "zoo" in item.tested_by else rf"\b{item.id}\b"
    assert re.search(wanted, (ROOT / item.tested_by).read_text(), re.MULTILINE), f"{item.tested_by} does not name it"
    shown = explain(item)
    example = [text.strip().splitlines()[0] for text in (item.lesson.before, item.lesson.after)]
    for told in (f"{path}:{line})", item.tested_by, item.text, item.source, item.lesson.why, *example):
        assert told in shown


def test_each_rule_has_one_entry():
    texts = [path.read_text() for path in (ROOT / "harness" / "rules" / "catalogue").iterdir()]
    assert sum(text.count("[[rule]]") for text in texts) == len(catalogue())


def test_an_unknown_id_is_refused():
    with pytest.raises(KeyError, match="C9-NOTHING"):
        rule("C9-NOTHING")


def test_code_names_only_known_ids():
    assert ids_named_in("harness") <= set(catalogue())


def test_every_rule_is_named_by_code_and_by_a_test():
    assert set(catalogue()) <= ids_named_in("harness")
    assert set(catalogue()) <= ids_named_in("tests")


def test_no_module_and_no_class_has_the_name_of_another():
    files = list((ROOT / "harness").rglob("*.py"))
    modules = Counter(path.stem for path in files if path.stem != "__init__")
    classes = Counter(name for path in files for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE))
    assert [name for name, count in (modules + classes).items() if count > 1] == []
