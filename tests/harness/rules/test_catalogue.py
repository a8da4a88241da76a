"""The rule catalogue ties text, code and tests together by id."""

import re
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.rules import catalogue, rule

ROOT = Path(__file__).parents[3]
ID = re.compile(r"[\"'`]([ACRS]\d{1,2}-[A-Z][A-Z0-9-]+)[\"'`]")


def ids_named_in(folder: str) -> set[str]:
    return {found for path in (ROOT / folder).rglob("*.py") for found in ID.findall(path.read_text())}


def test_ids_have_one_form_and_every_rule_has_text_and_source():
    for item in catalogue().values():
        assert re.fullmatch(r"[A-Z]\d{1,2}-[A-Z0-9]+(-[A-Z0-9]+)*", item.id)
        assert item.text.endswith(".")
        assert item.source
        assert item.enforced_by in {"construction", "measurement", "audit", "reading"}


def test_an_unknown_id_is_refused():
    with pytest.raises(UsageError, match="C9-NOTHING"):
        rule("C9-NOTHING")


def test_code_names_only_known_ids():
    assert ids_named_in("harness") <= set(catalogue())


def test_every_rule_is_named_by_code_and_by_a_test():
    assert set(catalogue()) <= ids_named_in("harness")
    assert set(catalogue()) <= ids_named_in("tests")
