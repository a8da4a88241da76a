"""A program that cannot live in a cell: the search names the layers that keep it from working."""

import sys
from pathlib import Path

import pytest
from cells import has_own_proc, policy

from harness.sandbox.cell import Cell
from harness.sandbox.diagnose import LAYERS, Probe, diagnose, try_once
from harness.sandbox.spec import CellSpec

NAMES_A_THREAD = "open('/proc/self/task/%d/comm' % threading.get_native_id(), 'r+').write('cuda')"
OFFERS_A_SOCKET = "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(chr(0) + 'golf-%d' % os.getpid())"


def probe(*lines: str, limit_s: float = 60.0) -> Probe:
    program = "\n".join(("import os, socket, threading, time", *lines, "print('it works')"))
    return Probe((sys.executable, "-I", "-S", "-c", program), policy(), limit_s)


def test_a_program_that_lives_in_a_cell_has_no_culprits():
    found = diagnose(probe(), budget_s=300)
    assert found.works
    assert found.culprits == []
    assert [outcome.what for outcome in found.outcomes[:2]] == ["no layer", "all layers"]
    assert {outcome.what.removesuffix(" alone") for outcome in found.outcomes[2:]} == set(LAYERS)
    assert {outcome.said for outcome in found.outcomes} == {"it works"}


def test_what_keeps_cuda_out_is_named():
    """A file and a system call that CUDA needs, in a cell without GPUs, whose root has a read-only /proc."""
    if not has_own_proc():
        pytest.skip("a cell has no /proc of its own here, as parts of /proc are covered (see harness doctor)")
    found = diagnose(probe(NAMES_A_THREAD, OFFERS_A_SOCKET), budget_s=300)
    assert not found.works
    assert found.culprits == ["landlock", "seccomp", "private_root"]
    assert found.proven
    assert not found.stopped


def test_what_fails_outside_is_not_the_sandbox_s_fault():
    found = diagnose(probe("raise SystemExit('no such device')"))
    assert found.stopped == "it does not work outside the sandbox either"
    assert found.outcomes[0].said == "no such device"
    assert found.culprits == []


def test_a_probe_that_hangs_is_ended_and_so_is_the_search():
    found = diagnose(probe("print('waiting', flush=True)", "time.sleep(600)", limit_s=5.0))
    assert found.outcomes[0].said == "no end within 5 s. waiting"
    stopped = diagnose(probe(OFFERS_A_SOCKET), budget_s=0.0)
    assert "used up" in stopped.stopped


def test_a_probe_of_several_ranks_works_when_all_of_them_do():
    command = (sys.executable, "-I", "-S", "-c", "import os; raise SystemExit(int(os.environ['RANK']) // 2)")
    two, three = ({"RANK": "0"}, {"RANK": "1"}), ({"RANK": "0"}, {"RANK": "1"}, {"RANK": "2"})
    assert try_once(Probe(command, policy(), 60.0, two), "two").works
    outcome = try_once(Probe(command, policy(), 60.0, three), "three")
    assert not outcome.works
    assert outcome.said == "exit codes [0, 0, 1]"


def test_a_run_s_cell_leaves_nothing_off(tmp_path: Path):
    relaxed = CellSpec("run", ("/bin/true",), {}, ({},), policy(), tmp_path / "log", frozenset({"seccomp"}))
    with pytest.raises(ValueError, match="leaves nothing off"):
        Cell(relaxed, strict=True)
