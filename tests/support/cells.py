"""Small programs in a cell, for tests of the sandbox: what a program printed, and how its cell ended."""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from harness.sandbox.cell import Cell, CellSpec
from harness.sandbox.layers import Layer
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.restrict import FOREIGN_PROC

ways = pytest.mark.parametrize("namespaced", [True, False], ids=["pid-namespace", "subreaper"])


def policy(**changes) -> SandboxPolicy:
    base = {
        "read": (),
        "write": (),
        "network": "none",
        "devices": (),
        "memory_bytes": 2_000_000_000,
        "file_bytes": 50_000_000,
        "processes": 4096,
    }
    return SandboxPolicy(**(base | changes))


def spec(
    program: str, log: Path, *, ranks=1, env: dict[str, str] | None = None, namespaced=True, **changes
) -> CellSpec:
    return CellSpec(
        name="attack",
        argv=(sys.executable, "-I", "-S", "-c", program),
        env=env or {},
        rank_env=tuple({"RANK": str(rank)} for rank in range(ranks)),
        policy=policy(**changes),
        log_file=log,
        namespaces=namespaced,
    )


@contextmanager
def running(program: str, log: Path, **changes) -> Iterator[Cell]:
    with Cell(spec(program, log, **changes), strict=False) as cell:
        cell.start()
        yield cell


@cache
def has_own_proc() -> bool:
    """Whether a cell gets a /proc of its own here; where a container's engine covers parts of /proc it does not."""
    with tempfile.TemporaryDirectory() as folder, running("pass", Path(folder) / "log") as cell:
        return FOREIGN_PROC not in cell.layers[Layer.HARD_KILL].how


def wait_for(check):
    """The first true value of ``check``, asked again and again; what never comes ends with the test's own limit."""
    while not (value := check()):
        time.sleep(0.01)
    return value


def living(words: str) -> list[int]:
    """Ids of living threads whose command line holds ``words``.

    A process whose first thread ended shows its command line no more, its other threads do.
    """
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            for folder in Path("/proc", process, "task").iterdir():
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                if words.encode() in line and " Z " not in (folder / "stat").read_text():
                    found.append(int(folder.name))
    return found


@dataclass(frozen=True)
class Ended:
    codes: list[int | None]
    text: str
    home: Path


def run_in_cell(program: str, log: Path, **changes) -> Ended:
    """Run ``program`` to its end in a cell."""
    with running(program, log, **changes) as cell:
        wait_for(lambda: None not in cell.exit_codes())
        home = cell.home
    return Ended(cell.exit_codes(), log.read_text(errors="replace"), home)


ATTEMPTS = """
import contextlib
import json
results = {}
def attempt(name, action):
    try:
        results[name] = "done: %r" % (action(),)
    except BaseException as error:
        results[name] = "refused: %s" % type(error).__name__
"""


def attempts(actions: dict[str, str], log: Path, *, before: str = "", **changes) -> dict:
    """Try each named expression in a cell; name -> "done: value" or "refused: error"."""
    lines = [ATTEMPTS, before]
    lines += [f"attempt({name!r}, lambda: {expression})" for name, expression in actions.items()]
    lines.append('print("RESULTS" + json.dumps(results), flush=True)')
    ended = run_in_cell("\n".join(lines), log, **changes)
    assert ended.codes == [0], ended.text
    return json.loads(ended.text.split("RESULTS")[1])


def done(found: dict) -> set[str]:
    """The names of the attempts that were let through."""
    return {name for name, said in found.items() if said.startswith("done")}
