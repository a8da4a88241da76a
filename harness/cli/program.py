"""How the command can be typed where the user stands: an environment that make made is seldom on the path."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program() -> str:
    """``harness`` where the shell finds it, else the path by which it was started, relative if that is shorter."""
    started = Path(sys.argv[0])
    if shutil.which("harness") is not None or started.name != "harness":
        return "harness"
    return str(from_here(started.absolute()))


def from_here(path: Path) -> Path:
    """The path as one would type it: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
