"""The referee's own environment variables, ``GOLF_*``: typed, listed by ``--help``, unknown ones refused."""

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import platformdirs

from harness.errors import UsageError

PREFIX = "GOLF_"

VARIABLES: dict[str, str] = msgspec.toml.decode(Path(__file__).with_name("variables.toml").read_bytes())

GIVEN_TO_MAKE = "GIVEN_TO_MAKE"  # the names on make's command line
COMMAND_VARIABLES = ("SEED", "SEEDS", "TRACK", "DATA", "SUBMISSION", "RESUME", "AGAIN", "QUICK", "RECORD", "FOLDER")
COMMITTED = Path("records")


def check_environment(environ: Mapping[str, str] | None = None) -> None:
    """Refuse unknown ``GOLF_*`` variables. Raises ``UsageError`` that names the variable and the nearest known one."""
    for name in os.environ if environ is None else environ:
        if name.startswith(PREFIX) and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(VARIABLES)}."
            raise UsageError(f"unknown environment variable {name}.", remedy=hint)


def cache_dir() -> Path:
    """Folder of built data sets."""
    return _folder("GOLF_CACHE_DIR", lambda: Path(platformdirs.user_cache_dir("parameter-golf")))


def keys_dir() -> Path:
    """Folder of private signing keys; outside any repository by default."""
    return _folder("GOLF_KEYS_DIR", lambda: Path(platformdirs.user_config_dir("parameter-golf")) / "keys")


def runs_dir() -> Path:
    """Folder of run files."""
    return _folder("GOLF_RUNS_DIR", lambda: Path(".golf") / "runs")


def records_dir() -> Path:
    """Folder of the signed records of one's own runs; apart from those that a repository holds for others."""
    return _folder("GOLF_RECORDS_DIR", lambda: Path(".golf") / "records")


def records_to_read() -> tuple[Path, ...]:
    """The records folders that are there: the repository's ``records`` and one's own, or GOLF_RECORDS_DIR alone."""
    own = records_dir()
    if "GOLF_RECORDS_DIR" in os.environ or not COMMITTED.is_dir():
        return (own,)
    return (COMMITTED.absolute(), *((own,) if own.is_dir() else ()))


def _folder(name: str, default: Callable[[], Path]) -> Path:
    value = os.environ.get(name)
    if value is not None and not value.strip():
        raise UsageError(f"{name} is empty.", remedy=f"Unset it, or set it to a folder: {VARIABLES[name]}.")
    try:
        return (Path(value).expanduser() if value else default()).absolute()
    except RuntimeError:  # no HOME, and nobody of that name in the list of users
        if value:
            raise UsageError(f"{name} is {value!r}, and no such user has a home.", remedy="Give a path.") from None
        remedy = "Set GOLF_CACHE_DIR and GOLF_KEYS_DIR to folders."  # what lies below it by default
        raise UsageError("this user has no home folder.", remedy=remedy) from None
