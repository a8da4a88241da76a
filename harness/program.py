"""How the command can be typed where the user stands: an environment that make made is seldom on the path."""

import shutil
import sys
from pathlib import Path

from harness.errors import UsageError


def program() -> str:
    """``harness`` where the shell finds it, else the path by which it was started, relative if that is shorter."""
    started = Path(sys.argv[0])
    if shutil.which("harness") is not None or started.name != "harness":
        return "harness"
    return str(from_here(started.absolute()))


def typed(text: str) -> str:
    """The text with its commands as they can be typed here: messages say `harness VERB`."""
    return text.replace("`harness ", f"`{program()} ")


def from_here(path: Path) -> Path:
    """The path as one would type it: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def refuse_copied_environment() -> None:
    """An environment that was copied with its folder still runs the original's referee, silently another code.

    Raises ``UsageError`` that names both.
    """
    started = Path(sys.argv[0]).absolute().parent.parent
    if (started / "pyvenv.cfg").is_file() and not started.samefile(sys.prefix):
        raise UsageError(
            f"{started} is a copy of the environment {sys.prefix}, and runs the referee that is installed there.",
            remedy=f"Remove {started} and make it anew.",
        )
