"""The command line: help, exit codes, one message a failure."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import VERBS, main
from harness.config.variables import VARIABLES
from harness.errors import CouldNotCheck, ExitCode, RuleBroken, UsageError


@pytest.fixture
def failing(harness, monkeypatch):
    """A command that ends in this error, called with ``words``."""

    def call(error: BaseException, words: str = "verify") -> tuple[int, str, str]:
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(main, "main", fail)
        return harness(*words.split())

    return call


def test_help_lists_every_verb_and_the_exit_codes(harness):
    code, text, _ = harness("--help")
    assert code == 0
    assert all(verb in text for verb in VERBS)
    assert "1 a rule is broken" in " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "given", "refused"),
    [
        ("verify nowhere", "BASLINE TRACK", "BASLINE"),
        ("report nowhere", "OUT SEED", "SEED"),
        ("verify nowhere", "BASELINE MARGIN TRACK GOLF_RUNS_DIR", ""),
        ("rerun nowhere", "", ""),
    ],
)
def test_a_name_that_make_was_given_is_refused_where_the_command_does_not_read_it(
    monkeypatch, harness, words: str, given: str, refused: str
):
    monkeypatch.setenv("GIVEN_TO_MAKE", given)
    _, _, said = harness(*words.split())
    assert (f"reads no variable {refused}." if refused else "nowhere") in said


@pytest.mark.parametrize("seed", ["1_0", "٣", "1.0", "0x1"])
def test_a_seed_is_plain_digits(seed, harness):
    code, _, err = harness("try", "--seed", seed)
    assert code == ExitCode.USAGE
    assert "is not a whole number" in err


@pytest.mark.parametrize("verb", list(VERBS))
def test_each_verb_has_help_and_json_and_states_the_same_exit_codes(verb, harness):
    code, text, _ = harness(verb, "--help")
    assert code == 0
    command = main.get_command(None, verb)
    subcommands = getattr(command, "commands", None) or getattr(command, "list_commands", lambda _: [])(None)
    assert "--json" in text or subcommands or verb == "export"  # what that one tells is in the files that it writes
    meanings = {
        "0": "good|nothing|everything|reproduced",
        "1": "a |not ",
        "2": "wrong usage",
        "3": "could not|something",
    }
    stated = re.search(r"Exit codes:(.*)", " ".join(text.split()))
    assert stated or verb == "new"
    for code, meaning in re.findall(r"\b(\d) ((?:[^,]|,(?! \d))+)", stated[1] if stated else ""):
        assert re.match(meanings[code], meaning), (code, meaning)


def every_command():
    """Each verb, and each word under it."""
    for verb in VERBS:
        command = main.get_command(None, verb)
        words = command.list_commands(None) if hasattr(command, "list_commands") else []
        yield from ([verb, word] for word in words)
        if not words:
            yield [verb]


@pytest.mark.parametrize("words", [[], *every_command()], ids=" ".join)
def test_a_wrong_option_or_verb_is_wrong_usage(words, harness):
    wrong = "--no-such-option" if words else "trian"
    code, _, err = harness(*words, wrong)
    assert code == ExitCode.USAGE
    assert wrong in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuleBroken("A3-ARTIFACT-BYTES", "artifact is 2 bytes, cap 1.", remedy="Prune."), ExitCode.RULE_BROKEN),
        (UsageError("SEED is 'x'.", remedy="Example: SEED=1."), ExitCode.USAGE),
        (CouldNotCheck("no network.", remedy="Connect."), ExitCode.COULD_NOT_CHECK),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (OSError(28, "No space left on device", "model.bin"), ExitCode.COULD_NOT_CHECK),
    ],
)
def test_every_failure_ends_in_one_line_and_its_exit_code(failing, error, code):
    found, _, err = failing(error)
    assert found == code
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("low", [None, resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_a_defect_of_the_referee_is_no_broken_rule(failing, monkeypatch, low: int | None):
    monkeypatch.setattr("harness.cli.main.getrlimit", lambda kind: (10**9 if kind == low else -1, -1))
    code, _, err = failing(MemoryError())
    assert (code, "raise this shell's limits of memory" in err) == (ExitCode.COULD_NOT_CHECK, low is not None)
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("harness: ERROR: the referee itself failed (MemoryError, above)")


def test_words_that_no_record_can_hold_are_refused_before_anything_is_done(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("GOLF_RECORDS_DIR", str(tmp_path / "records"))
    monkeypatch.setenv("GOLF_KEYS_DIR", str(tmp_path / "keys"))
    code, _, err = harness("keys", "new", "--owner", os.fsdecode("José".encode("latin-1")))
    assert (code, "is not UTF-8" in err) == (ExitCode.USAGE, True)
    assert not (tmp_path / "keys").exists()
    assert harness("keys", "new", "--owner", "José")[0] == ExitCode.GOOD
    (folder := tmp_path / os.fsdecode(b"\xff")).mkdir()
    assert "holds no records" in harness("verify", str(folder))[2]


def test_a_broken_rule_is_named_in_json(failing):
    error = RuleBroken("A3-ARTIFACT-BYTES", "artifact is 2 bytes, cap 1.", remedy="Prune.")
    answer = json.loads(failing(error, "submit --json")[1])
    assert answer["rule"] == "A3-ARTIFACT-BYTES"
    assert answer["remedy"] == "Prune."


@pytest.mark.parametrize(
    ("words", "offered"),
    [("harness submit --see", {"--seed", "--seeds"}), ("harness check fol", {"folder"})],
)
def test_the_shell_completes_verbs_and_options(words: str, offered: set[str]):
    asked = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "harness"], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert {line.removeprefix("plain,") for line in done.stdout.split()} == offered


def test_help_of_submit_lists_the_referees_variables(harness):
    _, text, _ = harness("submit", "--help")
    assert [name for name in VARIABLES if name not in text] == []


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "tiktoken", "ray", "submitit"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from harness.cli.main import run
for words in COMMANDS:
    try:
        run(words)
    except SystemExit as end:
        print(">", words[0], end.code)
"""


def test_the_core_needs_no_torch_and_other_commands_name_their_extra(tmp_path):
    records = Path(__file__).parents[3] / "records"
    core = [
        ["verify", str(records)],
        ["report", str(records), "--out", str(tmp_path / "report")],
        ["check", "--explain", "C1-CAUSAL"],
        ["check", "claims", str(records / "report" / "report.md")],
        ["keys", "list"],
        ["new", "mine"],
        ["data", "list"],
    ]
    mine = ["--submission", "mine"]
    extra = [["submit", *mine], ["try", *mine], ["rerun", str(next((records / "runs").glob("*.json")))]]
    code = WITHOUT.replace("COMMANDS", repr([*core, *extra, ["submit", "--track", "nono"], ["doctor", "--json"]]))
    folders = {f"GOLF_{name}_DIR": str(tmp_path / name) for name in ("CACHE", "KEYS", "RUNS", "RECORDS")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | folders, capture_output=True, text=True, check=False)
    *codes, _ = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("> ")]
    assert '"landlock"' in done.stdout  # doctor's own code tells what this machine lacks
    assert codes == [
        *([words[0], "0"] for words in core), ["submit", "3"], ["try", "3"], ["rerun", "3"], ["submit", "2"],
    ], done.stderr  # fmt: skip
    for name in ("submit", "try", "rerun"):
        assert f"harness {name} needs torch, which is not installed here. Install the extra train:" in done.stderr
    assert "unknown track 'nono'" in done.stderr
