"""A command that is printed can be typed where the user stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = "from harness.program import program; print(program())"


@pytest.mark.parametrize(
    ("started", "on_path", "typed"),
    [
        ("harness", True, "harness"),
        (".venv/bin/harness", True, "harness"),
        (".venv/bin/harness", False, ".venv/bin/harness"),
        ("/opt/tools/bin/harness", False, "/opt/tools/bin/harness"),
        ("/somewhere/pytest", False, "harness"),
    ],
)
def test_the_command_is_named_as_the_shell_finds_it(tmp_path: Path, started: str, on_path: bool, typed: str):
    folder = tmp_path / "bin"
    folder.mkdir()
    if on_path:
        (folder / "harness").write_text("#!/bin/sh\n")
        (folder / "harness").chmod(0o755)
    code = f"import sys; sys.argv[0] = {started!r}; {SHOW}"
    environment = os.environ | {"PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == typed
