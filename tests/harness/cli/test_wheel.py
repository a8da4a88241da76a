"""What the installed package needs besides code travels in the wheel."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
NOT_SHIPPED = {".sh"}
"""Scripts of a workflow, which runs them from a checkout."""


def test_every_data_file_of_the_referee_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = ROOT / "harness"
    shipped = {
        path for pattern in project["tool"]["setuptools"]["package-data"]["harness"] for path in package.glob(pattern)
    }
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files - shipped if path.suffix not in {".py", *NOT_SHIPPED}} == {package / "py.typed"}


def test_every_constraint_is_one_version_with_a_digest():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line)]
    assert wrong == []
