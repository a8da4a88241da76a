"""What the command prints and writes: text, summary, JSON by its schema, SARIF, annotations, baseline."""

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from public_folders import PublicFolder

from harness.cli.check_public import folder_command as command
from harness.review.findings import with_settings


@pytest.fixture
def folders(tmp_path):
    broken = PublicFolder(name="2026-04-06_Broken")
    broken.seeds[0].train_ms = 601_153
    warned = PublicFolder(name="2026-04-07_Warned")
    warned.seeds[0].train_ms = 600_100
    warned.seeds[0].hessian_s = 0
    return [str(f.write(tmp_path)) for f in (PublicFolder(), warned, broken)]


def run(*arguments):
    return CliRunner().invoke(command, list(arguments), standalone_mode=False)


def test_exit_codes_follow_the_gravest_verdict(folders):
    assert [int(run(folder).return_value) for folder in folders] == [0, 0, 1]


def test_text_tells_where_what_why_and_the_way_out(folders):
    text = run(folders[2]).output
    for part in (
        "FAIL",
        "A1-TRAIN-CLOCK",
        "train_seed1.log:",
        "found 601.153 s",
        "computed cap 600.000 s",
        "Why:",
        "fix:",
    ):
        assert part in text
    assert "PASS " not in text.split("\n", 1)[1]
    assert "PASS " in run(folders[2], "--all").output


def test_many_folders_end_in_a_table_worst_first(folders):
    rows = run(*folders).output.rsplit("\n\n", 1)[1].splitlines()
    assert [row.split()[0] for row in rows] == ["verdict", "FAIL", "WARN", "PASS"]
    assert rows[1].endswith("2026-04-06_Broken")


def test_json_follows_its_schema(folders):
    answer = json.loads(run(*folders, "--json").output)
    schema = json.loads(resources.files("harness.review").joinpath("report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(answer, schema)
    assert answer["verdict"] == "FAIL"
    assert answer["readings"]["eval_clock"] == "scorer"
    answer["folders"][0]["findings"][0]["verdict"] = "MAYBE"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, schema)


def test_sarif_is_whole_and_points_at_rule_file_and_line(folders, tmp_path):
    path = tmp_path / "out.sarif"
    run(folders[2], "--sarif", str(path))
    sarif = json.loads(path.read_text())
    result = next(r for r in sarif["runs"][0]["results"] if r["level"] == "error")
    rule = sarif["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]
    place = result["locations"][0]["physicalLocation"]
    assert sarif["version"] == "2.1.0"
    assert rule["id"] == result["ruleId"] == "A1-TRAIN-CLOCK"
    assert place["artifactLocation"]["uri"].endswith("2026-04-06_Broken/train_seed1.log")
    assert place["region"]["startLine"] > 0


def test_annotations_are_workflow_commands(folders):
    lines = run(folders[2], "--annotations").output.splitlines()
    assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in lines)
    assert any("title=A1-TRAIN-CLOCK::" in line for line in lines)


def test_baseline_shows_and_judges_only_what_is_new(folders, tmp_path):
    before = tmp_path / "before.json"
    before.write_text(run(folders[2], "--json").output)
    again = run(folders[2], "--baseline", str(before))
    assert again.return_value == 0
    assert "nothing new" in again.output
    (tmp_path / "track_10min_16mb/2026-04-06_Broken/README.md").unlink()
    newer = run(folders[2], "--baseline", str(before))
    assert newer.return_value == 1
    assert "A9-FILES" in newer.output
    assert "A1-TRAIN-CLOCK" not in newer.output


def test_a_baseline_of_another_kind_is_wrong_usage(folders, tmp_path):
    other = tmp_path / "other.json"
    other.write_text("[]")
    assert "is not output of" in str(run(folders[0], "--baseline", str(other)).exception)


def test_readings_are_listed_and_unknown_ones_refused(folders):
    assert "eval_clock" in run(folders[0], "--reading", "help").output
    assert "Names:" in str(run(folders[0], "--reading", "nonsense=1").exception)
    assert with_settings(("train_overshoot_s=0",)).train_overshoot_s == 0


def test_several_processes_give_the_same_as_one(tmp_path):
    paths = [str(PublicFolder(name=f"2026-04-05_{i}").write(tmp_path)) for i in range(8)]
    many = json.loads(run(*paths, "--json").output)["folders"]
    assert [f["folder"] for f in many] == paths
    assert json.loads(run(paths[3], "--json").output)["folders"][0]["findings"] == many[3]["findings"]


def test_many_folders_show_progress_on_a_terminal_and_none_in_a_pipe(tmp_path):
    paths = [str(PublicFolder(name=f"2026-04-05_{i}").write(tmp_path)) for i in range(8)]
    command_line = [sys.executable, "-m", "harness", "check", "folder", "--json", *paths]
    master, slave = os.openpty()
    terminal = subprocess.run(command_line, stdout=subprocess.PIPE, stderr=slave, text=True, check=False)
    os.close(slave)
    shown = os.read(master, 1 << 20).decode()
    os.close(master)
    assert "check folders" in shown
    assert "8 of 8" in shown
    pipe = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert (pipe.stderr, pipe.stdout) == ("", terminal.stdout)
    assert len(json.loads(pipe.stdout)["folders"]) == 8


def test_a_check_that_tests_no_gain_imports_neither_torch_nor_numpy_nor_scipy(tmp_path):
    folder = PublicFolder(track="track_non_record_16mb").write(tmp_path)
    code = (
        "import sys\nfrom harness.cli.main import run\n"
        f"try:\n    run(['check', 'folder', {str(folder)!r}])\nexcept SystemExit:\n    pass\n"
        "sys.exit(' '.join(m for m in ('torch', 'numpy', 'scipy', 'rich', 'cryptography') if m in sys.modules) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(("block", "code"), [("A3", 0), ("A1", 1), ("A1-TRAIN-CLOCK,A3", 1), ("none", 0), ("all", 1)])
def test_what_blocks_is_a_setting(folders, block, code):
    assert run(folders[2], "--block", block).return_value == code


def test_an_unknown_rule_to_block_is_wrong_usage(folders):
    assert "no such rule" in str(run(folders[2], "--block", "A99").exception)


def test_a_folder_of_records_stands_for_every_record_below(folders, tmp_path):
    found = json.loads(run(str(tmp_path), "--json").output)["folders"]
    assert sorted(f["folder"] for f in found) == sorted(folders)


def test_a_baseline_made_by_name_holds_for_the_folder_that_one_is_in(folders, tmp_path, monkeypatch):
    before = tmp_path / "before.json"
    before.write_text(run(folders[2], "--json").output)
    monkeypatch.chdir(folders[2])
    assert run(".", "--baseline", str(before)).return_value == 0


def test_findings_of_one_rule_are_one_and_why_is_told_once(folders, tmp_path):
    folder = PublicFolder(name="2026-04-04_Three")
    for seed in folder.seeds:
        seed.train_ms = 601_153
    text = run(folders[2], str(folder.write(tmp_path))).output
    assert text.count("FAIL    A1-TRAIN-CLOCK") == 2
    assert text.count("also train_seed") == 2
    assert text.count("Why:") == run(folders[2]).output.count("Why:")


def test_sarif_points_at_files_that_exist(folders, tmp_path):
    path, folder = tmp_path / "out.sarif", tmp_path / "track_10min_16mb/2026-04-06_Broken"
    (folder / "README.md").unlink()
    run(str(folder), "--sarif", str(path))
    results = json.loads(path.read_text())["runs"][0]["results"]
    uris = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results}
    assert all(Path(uri.removeprefix("file://")).exists() for uri in uris)
    assert path.stat().st_mode == (folder / "submission.json").stat().st_mode


def test_many_folders_of_which_one_is_none_are_wrong_usage(folders, tmp_path):
    error = run(*folders, *folders[:2], *folders[:2], *folders, str(tmp_path / "nothing")).exception
    assert "nothing is not a folder" in str(error)
