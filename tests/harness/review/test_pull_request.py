"""The folder that a pull request adds: by git, by the script of the workflow, and by the pre-commit hook."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from public_folders import PublicFolder

from harness.cli.check_public import folder_command as command

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "harness/review/check_pull_request.sh"
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


def git(repository, *arguments):
    subprocess.run([*GIT, "-C", str(repository), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    PublicFolder(name="2026-03-01_Before").write(place / "records")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "before")
    git(place, "checkout", "-qb", "change")
    return place


def commit(repository):
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "change")


def dry_run(repository, base="main", **environment):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
    return subprocess.run(
        [str(SCRIPT), base, "out"],
        cwd=repository,
        env=kept | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_clean_folder_passes_and_leaves_every_report(repository):
    PublicFolder().write(repository / "records")
    commit(repository)
    done = dry_run(repository)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in (repository / "out").iterdir()) == [
        "report.json",
        "report.sarif",
        "report.txt",
    ]
    report = json.loads((repository / "out/report.json").read_text())
    assert [Path(f["folder"]).name for f in report["folders"]] == ["2026-04-05_Made_Up"]


@pytest.mark.parametrize("name", ["report.txt", "report.json", "report.sarif", ""])
def test_a_report_never_goes_where_a_link_of_the_pull_request_leads(repository, tmp_path, name):
    """The folder of the reports lies in the checkout, so a pull request can bring it."""
    PublicFolder().write(repository / "records")
    (tmp_path / "mine").mkdir()
    for file in ("report.txt", "report.json", "report.sarif"):
        (tmp_path / "mine" / file).write_text("mine")
    (repository / "out").mkdir() if name else None
    (repository / "out" / name).symlink_to(tmp_path / "mine" / name)
    commit(repository)
    done = dry_run(repository)
    assert {path.read_text() for path in (tmp_path / "mine").iterdir()} == {"mine"}
    assert done.returncode == (1 if name else 3), "it also adds a file outside of its record folder"


BEFORE = "records/track_10min_16mb/2026-03-01_Before"
ALONE = {
    "edits": lambda r: (r / BEFORE / "README.md").write_text("changed"),
    "deletes one file": lambda r: (r / BEFORE / "train_seed1.log").unlink(),
    "deletes all": lambda r: shutil.rmtree(r / BEFORE),
    "adds to it": lambda r: (r / BEFORE / "notes.md").write_text("x"),
    "adds below it": lambda r: PublicFolder(track="track_x").write(r / BEFORE),
    "no folder": lambda r: (r / "records/track_10min_16mb/README.md").write_text("x"),
    "other code": lambda r: (r / "train_gpt.py").write_text("x = 1"),
}


@pytest.mark.rule("A9-ONE-FOLDER")
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a new folder"])
@pytest.mark.parametrize("change", list(ALONE.values()), ids=list(ALONE))
def test_the_records_of_others_are_left_alone(repository, monkeypatch, change, beside):
    if beside:
        PublicFolder().write(repository / "records")
    change(repository)
    commit(repository)
    monkeypatch.chdir(repository)
    done = CliRunner().invoke(command, ["--changed-from", "main", "--json"], standalone_mode=False)
    report = json.loads(done.output)
    found = [item for folder in report["folders"] for item in folder["findings"] if item["rule"] == "A9-ONE-FOLDER"]
    assert {item["verdict"] for item in found} == {"FAIL"}
    assert done.return_value == 1


@pytest.mark.rule("A9-ONE-FOLDER")
def test_a_pull_request_that_only_deletes_is_refused_in_every_output(repository):
    shutil.rmtree(repository / BEFORE)
    commit(repository)
    done = dry_run(repository, GITHUB_ACTIONS="true")
    assert done.returncode == 1
    assert "::error file=./records/track_10min_16mb/2026-03-01_Before/" in done.stdout
    sarif = json.loads((repository / "out/report.sarif").read_text())
    assert [result["ruleId"] for result in sarif["runs"][0]["results"]] == ["A9-ONE-FOLDER"]


@pytest.mark.rule("A9-ONE-FOLDER")
def test_a_folder_that_the_base_got_meanwhile_is_not_added_again(repository):
    PublicFolder().write(repository / "records")
    commit(repository)
    git(repository, "checkout", "-q", "main")
    PublicFolder(files={"notes.md": "of another author"}).write(repository / "records")
    commit(repository)
    git(repository, "checkout", "-q", "change")
    done = dry_run(repository)
    assert done.returncode == 1
    assert "the base has already" in " ".join(done.stdout.split())


def test_on_the_runner_it_annotates_and_writes_the_summary(repository, tmp_path):
    folder = PublicFolder()
    folder.seeds[0].train_ms = 601_153
    folder.write(repository / "records")
    commit(repository)
    summary = tmp_path / "summary.md"
    done = dry_run(repository, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1
    assert "::error file=" in done.stdout
    assert "A1-TRAIN-CLOCK" in summary.read_text()


def test_readings_reach_the_check(repository):
    folder = PublicFolder()
    folder.seeds[0].train_ms, folder.seeds[0].hessian_s = 600_100, 0
    folder.write(repository / "records")
    commit(repository)
    assert dry_run(repository).returncode == 0
    assert dry_run(repository, READINGS="train_overshoot_s=0").returncode == 1


def test_a_listing_can_not_stand_in_for_files_in_a_pull_request(repository):
    listing = json.dumps({"train_gpt.py": {"bytes": 5, "sha256": "0" * 64}})
    PublicFolder(files={"train_gpt.py": None, "FILES.json": listing}).write(repository / "records")
    commit(repository)
    assert dry_run(repository).returncode == 1


def test_code_of_the_pull_request_is_not_imported(repository):
    PublicFolder().write(repository / "records")
    for name in ("json.py", "click.py", "harness.py"):
        (repository / name).write_text("raise SystemExit('imported')")
    commit(repository)
    done = dry_run(repository)
    assert "imported" not in done.stdout + done.stderr
    assert "A9-ONE-FOLDER" in done.stdout


def test_an_unknown_base_could_not_be_checked(repository):
    done = dry_run(repository, base="nowhere")
    assert done.returncode == 3
    assert "git" in done.stderr


def test_the_hook_checks_what_is_staged(repository):
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entry = next(line for line in hook.splitlines() if "entry:" in line).split("entry: harness ")[1].split()
    assert "files:" not in hook  # with a pattern, pre-commit passes over a commit that only deletes a README
    folder = PublicFolder()
    folder.seeds[0].train_ms = 601_153
    folder.write(repository / "records")
    command = [sys.executable, "-m", "harness", *entry]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert before.returncode == 0
    git(repository, "add", "-A")
    program, ran = repository / "program", repository / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))  # what the repository's configuration names is not run
    after = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert after.returncode == 1
    assert "A1-TRAIN-CLOCK" in after.stdout
    assert not ran.exists()


def test_the_check_imports_only_what_the_workflow_installs(tmp_path):
    """The core of the package, and what its dependencies ship inside."""
    workflow = (ROOT / ".github/workflows/check-records.yml").read_text()
    assert "harness/review/check_pull_request.sh" in workflow
    assert 'versions.txt" ./.referee\n' in workflow
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    allowed = {re.split(r"[<>=]", entry)[0] for entry in declared}
    old = PublicFolder(name="2026-04-01_Old").write(tmp_path)
    new = PublicFolder().write(tmp_path)
    code = (
        "import sys\nfrom harness.cli.main import run\n"
        f"try:\n    run(['check', 'folder', {str(new)!r}, '--against', {str(old)!r}, '--json', "
        f"'--sarif', {str(tmp_path / 's')!r}])\nexcept SystemExit:\n    pass\n"
        "from importlib.metadata import packages_distributions\n"
        "known = packages_distributions()\n"
        "print(*{d for m in sys.modules if '.' not in m for d in known.get(m, [])}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    inside = {
        "parameter-golf-referee",
        "mdurl",
        "cffi",
        "charset-normalizer",
        "typing_extensions",
        "setuptools",
    }
    assert set(done.stderr.split()) - inside <= allowed
