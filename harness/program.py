"""How the command can be typed where the user stands: an environment that make made is seldom on the path."""

import os
import shutil
import sys
from pathlib import Path

from harness.errors import CouldNotCheck, UsageError


def program() -> str:
    """``harness`` where the shell finds it, else the path by which it was started, relative if that is shorter."""
    started = Path(sys.argv[0])
    if shutil.which("harness") is not None or started.name != "harness":
        return "harness"
    return str(from_here(started.absolute()))


def typed(text: str) -> str:
    """The text with its commands as they can be typed here: messages say `harness VERB`."""
    return text.replace("`harness ", f"`{program()} ") if "`harness " in text else text


def from_here(path: Path) -> Path:
    """The path as one would type it: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def refuse_surroundings() -> None:
    """Raise ``UsageError`` where another code than it seems would run, ``CouldNotCheck`` without a working folder.

    An environment that was copied with its folder runs the original's referee.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise CouldNotCheck("the working folder was removed.", remedy="Go to one that is there.") from None
    given = os.environ.get("PYTHONPATH")
    if given and not all(map(os.path.isabs, given.split(os.pathsep))):
        text = f"PYTHONPATH is {given!r}: an empty or relative entry lets Python run what lies in the working folder."
        raise UsageError(text, remedy="Take it out: `unset PYTHONPATH`, or absolute paths without a colon at an end.")
    started = Path(sys.argv[0]).absolute().parent.parent
    if (started / "pyvenv.cfg").is_file() and not started.samefile(sys.prefix):
        words = f"{started} is a copy of the environment {sys.prefix}, and runs the referee that is installed there."
        raise UsageError(words, remedy=f"Remove {started} and make it anew.")
