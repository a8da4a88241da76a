"""Every way a command can end, with one exit code each, the same in all commands.

A command that stops early raises one of these; ``harness.cli.main`` prints the message once and exits.
The message names the file or rule, says what was found and what was wanted; ``remedy`` says the way out.
"""

from __future__ import annotations

from enum import IntEnum


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
    """

    exit_code: ExitCode = ExitCode.COULD_NOT_CHECK
    label: str = "ERROR"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class RuleBroken(HarnessError):
    """A rule of the challenge is broken; ``rule`` is an id of the rule catalogue."""

    exit_code = ExitCode.RULE_BROKEN
    label = "FAIL"

    def __init__(self, rule: str, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.rule} FAIL: {super().__str__()}"


class UsageError(HarnessError):
    """The command line, an environment variable or a configuration file is wrong."""

    exit_code = ExitCode.USAGE


class CouldNotCheck(HarnessError):
    """Something outside the rules stopped the check: a missing file, no network, a full disk."""

    exit_code = ExitCode.COULD_NOT_CHECK
