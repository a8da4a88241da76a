"""The project's Triton kernels: what they compute (on a CPU, by Triton's interpreter) and how exactly a GPU does it.

A process interprets kernels or compiles them, for good; so the interpreted test runs in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted_kernels_equal_the_chunked_scan_in_values_and_gradients():
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    script = ROOT / "tests" / "support" / "interpreted_kernels.py"
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
