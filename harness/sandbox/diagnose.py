"""Which layer keeps a program from working in a cell: found by leaving layers off.

Covered: any program that tells by its exit code whether it worked. Not covered: programs that work by chance, and which
file or system call of a layer it is: what the program says on its way out, or `strace`, tells that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.sandbox.cell import Cell
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.spec import CellSpec

LAYERS = (
    "no_new_privs",
    "landlock",
    "seccomp",
    "private_root",
    "namespaces",
    "capabilities",
    "rlimits",
    "environment",
)
ALL_LAYERS = "all layers"
_POLL_S = 0.005
_SAID_CHARACTERS = 300


@dataclass(frozen=True)
class Probe:
    """A program to be tried. It works when it ends with 0 in time; its last line says what it found.

    argv: command line; policy: what its cell may do; limit_s: its time; rank_env: variables of each rank
    """

    argv: tuple[str, ...]
    policy: SandboxPolicy
    limit_s: float = 10.0
    rank_env: tuple[Mapping[str, str], ...] = ({},)


@dataclass(frozen=True)
class Outcome:
    """How one attempt went."""

    what: str
    works: bool
    seconds: float
    said: str


@dataclass
class Diagnosis:
    """All attempts, and the layers behind each of which alone the program fails.

    proven:  the program works when no more than these are left off
    stopped: why the search ended early; empty when it didn't
    """

    outcomes: list[Outcome] = field(default_factory=list)
    culprits: list[str] = field(default_factory=list)
    proven: bool = False
    stopped: str = ""

    @property
    def works(self) -> bool:
        """Whether the program works behind all layers."""
        return any(outcome.what == ALL_LAYERS and outcome.works for outcome in self.outcomes)


def diagnose(probe: Probe, *, budget_s: float = 55.0, tell: Callable[[Outcome], None] = lambda _: None) -> Diagnosis:
    """Try ``probe`` behind no layer, all of them and each alone; where all is too much, name those that fail alone.

    tell: is called with every attempt as it ends
    """
    found, every, until = Diagnosis(), frozenset(LAYERS), time.monotonic() + budget_s
    attempts = {"no layer": every, ALL_LAYERS: frozenset[str]()}
    for layer in LAYERS:  # a private root needs namespaces
        attempts[f"{layer} alone"] = every - {layer} - ({"namespaces"} if layer == "private_root" else set())

    def attempt(what: str, off: frozenset[str]) -> bool:
        found.outcomes.append(try_once(probe, what, off))
        tell(found.outcomes[-1])
        return found.outcomes[-1].works

    for what, off in attempts.items():
        if time.monotonic() > until:
            found.stopped = f"the {budget_s:.0f} s for the search were used up"
            return found
        works = attempt(what, off)
        if not (works or off != every):
            found.stopped = "it does not work outside the sandbox either"
            return found
        if not works and what != ALL_LAYERS:
            found.culprits.append(what.removesuffix(" alone"))
    if not found.works and not found.culprits:
        found.stopped = "no layer alone keeps it out"
    elif not found.works:
        found.proven = attempt("all layers, less those named", frozenset(found.culprits))
    return found


def try_once(probe: Probe, what: str, off: frozenset[str] = frozenset()) -> Outcome:
    """Run the probe once in a cell of its own. A cell that cannot be started counts as not working.

    off: layers to leave off
    """
    since = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="golf-probe-") as scratch:
        log = Path(scratch) / "log"
        spec = CellSpec("probe", probe.argv, {}, probe.rank_env, probe.policy, log, off)
        try:
            with Cell(spec, strict=False) as cell:
                cell.start()
                until = time.monotonic() + probe.limit_s
                while None in (codes := cell.exit_codes()) and time.monotonic() < until:
                    time.sleep(_POLL_S)
        except (HarnessError, OSError) as error:
            return Outcome(what, False, time.monotonic() - since, f"no cell: {error}"[:_SAID_CHARACTERS])
        lines = log.read_text(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = f"no end within {probe.limit_s:g} s. {said}" if None in codes else said or f"exit codes {codes}"
    return Outcome(what, not any(code != 0 for code in codes), time.monotonic() - since, said[:_SAID_CHARACTERS])
