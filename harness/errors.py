"""Every way a command can end, with one exit code each, the same in all commands.

A command that stops early raises one of these; ``harness.cli.main`` prints the message once and exits.
The message names the file or rule, says what was found and what was wanted; ``remedy`` says the way out.
"""

import copyreg
import errno
import os
from enum import IntEnum
from pathlib import Path
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of every ``harness`` command."""

    GOOD = 0
    RULE_BROKEN = 1
    USAGE = 2
    COULD_NOT_CHECK = 3
    INTERRUPTED = 130


class HarnessError(Exception):
    """A failure with a message for people and an exit code for machines.

    message: one sentence, what is wrong and where
    remedy:  one sentence, what to do about it
    log:     last lines of a program's log, for whoever stands at this machine: never signed or published
    """

    exit_code: ExitCode = ExitCode.COULD_NOT_CHECK
    label: str = "ERROR"

    def __init__(self, message: str, *, remedy: str, log: str = "") -> None:
        super().__init__(message)
        self.message, self.remedy, self.log = message, remedy, log

    def __str__(self) -> str:
        log = f" {self.log}\n" if self.log else " "
        return f"{self.message}{log}{self.remedy}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Without this an error of a worker process can't be read by the one that waits for it.
        return copyreg.__newobj__, (type(self), self.message), self.__dict__  # type: ignore[attr-defined]


class RuleBroken(HarnessError):
    """A rule of the challenge is broken; ``rule`` is an id of the rule catalogue."""

    exit_code = ExitCode.RULE_BROKEN
    label = "FAIL"

    def __init__(self, rule: str, message: str, *, remedy: str, log: str = "") -> None:
        super().__init__(message, remedy=remedy, log=log)
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.rule} FAIL: {super().__str__()}"


class UsageError(HarnessError):
    """The command line, an environment variable or a configuration file is wrong."""

    exit_code = ExitCode.USAGE


class CouldNotCheck(HarnessError):
    """Something outside the rules stopped the check: a missing file, no network, a full disk."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with the words for the user: what was kept, and the command that goes on."""


FOLDERS = "GOLF_RUNS_DIR, GOLF_RECORDS_DIR and GOLF_CACHE_DIR"
_LACKS = {
    errno.ENOSPC: "the disk{} is full",
    errno.EDQUOT: "the disk quota{} is used up",
    errno.EROFS: "the file system{} is read-only",
    **dict.fromkeys(
        (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP),
        "the file system{} does not permit it; network and removable ones lack file modes and hard links",
    ),
    errno.ENOLCK: "the file system{} offers no file locks (flock)",
}


def machine_trouble(error: OSError, place: str | os.PathLike[str] | None = None) -> CouldNotCheck:
    """What the machine refused, as an error that names the disk or the file and the remedy, never a broken rule.

    place: the folder that was worked in, where the error itself names no file
    """
    named = place or error.filename2 or error.filename  # of a copy, where it goes
    where = Path(os.fsdecode(named)) if named else None
    for hidden in (where, *where.parents) if where else ():
        if hidden.name.startswith(".partial-"):
            where = hidden.parent
    reason = _LACKS.get(error.errno or 0)
    if reason is None:
        own = f"Use a folder of your own: {FOLDERS} name the referee's." if where else ""
        name = f" ({str(where)[:200]}{'…' if len(str(where)) > 200 else ''})" if where else ""
        return CouldNotCheck(f"{error.strerror or error}{name}.", remedy=own)
    remedy = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Use another file system"
    text = f"{reason.format(f' of {where}' if where else '')}."
    return CouldNotCheck(text, remedy=f"{remedy}: {FOLDERS} name the referee's; `df` shows the disks.")
