"""Which layer, and which rule of it, keeps a program from working in a cell: found by leaving things off.

Covered: any program that tells by its exit code whether it worked. A search assumes that leaving more off never breaks
a program. Not covered: programs that work by chance.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from harness.errors import HarnessError
from harness.sandbox import landlock, seccomp
from harness.sandbox.cell import Cell
from harness.sandbox.policy import Relaxation, SandboxPolicy
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
_EVERY_RIGHT = landlock.RUN | landlock.WRITE | landlock.DEVICE
_RIGHTS = {
    "read_file": landlock.READ_FILE,
    "read_dir": landlock.READ_DIR,
    "write_file": landlock.WRITE_FILE,
    "ioctl_dev": landlock.IOCTL_DEV,
    "execute": landlock.EXECUTE,
    "truncate": landlock.TRUNCATE,
    "make and remove": landlock.WRITE & ~(landlock.READ | landlock.WRITE_FILE | landlock.TRUNCATE),
}
_FIRST_SUSPECTS = ("socket", "connect", "accept", "accept4", "socketpair", "clone3", "userfaultfd", "process_vm_readv")
ALL_LAYERS = "all layers"
_POLL_S = 0.005
_SAID_CHARACTERS = 300

Rule = tuple[str, int]
T = TypeVar("T")


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


@dataclass(frozen=True)
class Culprit:
    """A layer, or a rule of it (a path with rights, a system call), without which the program would work."""

    layer: str
    rule: str


@dataclass
class Diagnosis:
    """All attempts, and the smallest set of culprits that was found.

    proven:  the program works with every layer on and no more than the culprits left off
    stopped: why the search ended early; empty when it didn't
    """

    outcomes: list[Outcome] = field(default_factory=list)
    culprits: list[Culprit] = field(default_factory=list)
    proven: bool = False
    stopped: str = ""

    @property
    def works(self) -> bool:
        """Whether the program works behind all layers."""
        return any(outcome.what == ALL_LAYERS and outcome.works for outcome in self.outcomes)


class OutOfTime(Exception):
    """The time for the whole search is used up."""


def diagnose(probe: Probe, *, budget_s: float = 55.0, tell: Callable[[Outcome], None] = lambda _: None) -> Diagnosis:
    """Try ``probe`` behind no layer, all of them and each alone; where all is too much, search for what to blame.

    tell: is called with every attempt as it ends, those of the search included
    """
    search = _Search(probe, time.monotonic() + budget_s, tell)
    found = search.found
    try:
        if not search.note("no layer", Relaxation(frozenset(LAYERS))):
            found.stopped = "it does not work outside the sandbox either"
            return found
        search.note(ALL_LAYERS, Relaxation())
        for layer in LAYERS:
            others = frozenset(LAYERS) - {layer} - ({"namespaces"} if layer == "private_root" else set())
            search.note(f"{layer} alone", Relaxation(others))
        if not found.works:
            search.blame()
    except OutOfTime:
        found.stopped = f"the {budget_s:.0f} s for the search were used up; what is named is not narrowed down"
    return found


def try_once(probe: Probe, what: str, relaxed: Relaxation) -> Outcome:
    """Run the probe once in a cell of its own. A cell that cannot be started counts as not working."""
    since = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="golf-probe-") as scratch:
        log = Path(scratch) / "log"
        spec = CellSpec("probe", probe.argv, {}, probe.rank_env, probe.policy, log, relaxed)
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


def smallest(candidates: Sequence[T], works: Callable[[list[T]], bool]) -> list[T]:
    """A smallest subset of ``candidates`` that works, where all together do and none alone does not (QuickXplain)."""

    def explain(base: list[T], added: bool, rest: Sequence[T]) -> list[T]:
        if added and works(base):
            return []
        if len(rest) == 1:
            return list(rest)
        left, right = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        of_right = explain([*base, *left], True, right)
        of_left = explain([*base, *of_right], bool(of_right), left)
        return of_left + of_right

    return explain([], False, candidates) if candidates else []


class _Search:
    """One search: the probe, its time, what was tried, and what is known so far."""

    def __init__(self, probe: Probe, until: float, tell: Callable[[Outcome], None]) -> None:
        self.found = Diagnosis()
        self._tell = tell
        self._probe = probe
        self._until = until
        self._known: dict[Relaxation, bool] = {}

    def note(self, what: str, relaxed: Relaxation) -> bool:
        """Try once and keep the outcome for the table."""
        outcome = self._try(what, relaxed)
        self.found.outcomes.append(outcome)
        return outcome.works

    def works(self, relaxed: Relaxation) -> bool:
        """Try once, without a row of its own."""
        if relaxed not in self._known:
            self._try(f"without {_in_words(relaxed)}", relaxed)
        return self._known[relaxed]

    def _try(self, what: str, relaxed: Relaxation) -> Outcome:
        if time.monotonic() > self._until:
            raise OutOfTime
        outcome = try_once(self._probe, what, relaxed)
        self._known[relaxed] = outcome.works
        self._tell(outcome)
        return outcome

    def blame(self) -> None:
        """Name the smallest set of layers, then of rules of Landlock and of the filter, that must go."""
        layers = smallest(LAYERS, lambda off: self.works(Relaxation(frozenset(off))))
        self.found.culprits = [Culprit(layer, "the whole layer") for layer in layers]
        off = frozenset(layers)
        paths = self._paths(off - {"landlock"}) if "landlock" in off else []
        calls = self._calls(off - {"seccomp"}) if "seccomp" in off else []
        kept = off - ({"landlock", "private_root"} if paths else set()) - ({"seccomp"} if calls else set())
        relaxed = Relaxation(kept, tuple(paths), frozenset(calls))
        self.found.proven = self.note("all layers, less the rules named", relaxed)
        if self.found.proven and paths:  # what Landlock names is then mounted as well
            self.found.culprits = [culprit for culprit in self.found.culprits if culprit.layer != "private_root"]

    def _replace(self, layer: str, rules: Iterable[str]) -> None:
        kept = [culprit for culprit in self.found.culprits if culprit.layer != layer]
        self.found.culprits = kept + [Culprit(layer, rule) for rule in rules]

    def _calls(self, off: frozenset[str]) -> list[str]:
        names = list(seccomp.names())
        names.sort(key=lambda name: name not in _FIRST_SUSPECTS)

        def works(allowed: list[str]) -> bool:
            return self.works(Relaxation(off, calls=frozenset(allowed)))

        if not works(names):
            self._replace("seccomp", ["the filter itself, whatever it lets through (no_new_privs comes with it)"])
            return []
        calls = smallest(names, works)
        self._replace("seccomp", [f"system call {name}" for name in calls])
        return calls

    def _paths(self, off: frozenset[str]) -> list[tuple[str, int]]:
        """Folders are searched from the root down, all rights at once; then the rights of each that is left."""
        off |= {"private_root"}

        def works(rules: Iterable[Rule], others: Iterable[Rule] = ()) -> bool:
            return self.works(Relaxation(off, paths=tuple(sorted({*rules, *others}))))

        rules, done = [("/", _EVERY_RIGHT)], list[Rule]()
        if not works(rules):
            self._replace("landlock", ["not a matter of files: its scopes, TCP, or no_new_privs that comes with it"])
            return []
        while rules:
            self._replace("landlock", [f"some right below {path}" for path, _ in (*rules, *done)])
            rule = rules.pop(0)
            others = [*rules, *done]
            below = [(child, _EVERY_RIGHT) for child in _children(rule[0])]
            if below and works(below, others):
                rules += smallest(below, partial(works, others=others))
            else:
                done.append(rule)
        for rule in tuple(done):
            done.remove(rule)
            single = [(rule[0], bits) for bits in _RIGHTS.values()]
            rights = smallest(single, partial(_merged, works, others=tuple(done)))
            done.append((rule[0], sum(bits for _, bits in rights)))
            self._replace("landlock", [f"{_names(bits)} below {path}" for path, bits in done])
        return done


def _merged(works: Callable[..., bool], rules: list[Rule], others: tuple[Rule, ...]) -> bool:
    """Ask for several rights on one path as the one rule that Landlock takes."""
    return works([(rules[0][0], sum(bits for _, bits in rules))], others)


def _children(path: str) -> list[str]:
    """What may hold the file in question: what a folder holds; in /proc the process's own instead of numbers."""
    folder = Path(path)
    if not folder.is_dir():
        return []
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    own = ["/proc/self"] if path == "/proc" else []
    numbers = path.startswith("/proc")
    return own + [str(child) for child in inside if not child.is_symlink() and not (numbers and child.name.isdigit())]


def _in_words(relaxed: Relaxation) -> str:
    """What is left off, cut short where it is much."""
    names = [*sorted(relaxed.layers), *(path for path, _ in relaxed.paths), *sorted(relaxed.calls)]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _names(rights: int) -> str:
    if rights == _EVERY_RIGHT:
        return "some right"
    return ", ".join(name for name, bits in _RIGHTS.items() if rights & bits == bits)
