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


def test_the_locked_versions_are_the_constraints():
    def versions(name: str) -> dict[str, str]:
        lines = (line.split()[0] for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#")
        pairs = (line.split("==") for line in lines)
        return {re.sub(r"[-_.]+", "-", name).lower(): version.partition("+")[0] for name, version in pairs}

    assert versions("requirements.lock") == versions("constraints.txt")
