"""The layers of a cell by name, and what became of each. Only the standard library is imported here."""

from enum import StrEnum
from typing import NamedTuple, Self

IN_FORCE, MISSING = "in force", "missing"
OWN_ROOT = "in a root of its own"


class Layer(StrEnum):
    """Everything that keeps a cell in, by the name that records use."""

    DESCRIPTORS = "descriptors"
    ENVIRONMENT = "environment"
    GUARDED = "guarded"
    HARD_KILL = "hard_kill"
    LANDLOCK = "landlock"
    NETWORK = "network"
    NO_NEW_PRIVS = "no_new_privs"
    PRIVATE_TMP = "private_tmp"
    RLIMITS = "rlimits"
    SECCOMP = "seccomp"


class LayerState(NamedTuple):
    """Whether a layer is in force, and how; or why it is missing. As text it is what a record holds."""

    in_force: bool
    how: str

    def __str__(self) -> str:
        word = IN_FORCE if self.in_force else MISSING
        return f"{word}: {self.how}" if self.how else word

    @classmethod
    def read(cls, text: str) -> Self:
        """The state of which ``text`` is the form in a record; text of any other form is a layer that is missing."""
        word, _, how = text.partition(": ")
        return cls(word == IN_FORCE, how)
