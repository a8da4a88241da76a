"""``harness check``: help without its parts, and rules that are taught."""

import json

import pytest

from harness.cli.check import CHECKS
from harness.errors import ExitCode
from harness.rules import catalogue


def test_help_lists_the_checks_without_importing_them(monkeypatch):
    monkeypatch.setattr("importlib.import_module", pytest.fail)
    from click.testing import CliRunner

    from harness.cli.check import command

    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in CHECKS)


def test_a_section_is_taught_whole(harness):
    _, out, _ = harness("check", "--explain", "a3")
    assert all(item.id in out for item in catalogue().values() if item.id.startswith("A3-"))


def test_the_list_and_the_json_name_every_rule(harness):
    _, out, _ = harness("check", "--explain", "list")
    assert len(out.splitlines()) == len(catalogue())
    _, out, _ = harness("check", "--explain", "list", "--json")
    assert [item["id"] for item in json.loads(out)] == list(catalogue())


def test_an_unknown_rule_is_wrong_usage_and_names_near_ones(harness):
    code, _, err = harness("check", "--explain", "ARTIFACT")
    assert code == ExitCode.USAGE
    assert "A3-ARTIFACT-BYTES" in err
