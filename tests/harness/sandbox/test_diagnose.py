"""A program that cannot live in a cell: the search names what keeps it from working, and nothing else."""

import sys
from pathlib import Path

import pytest
from cells import has_own_proc, policy
from hypothesis import given
from hypothesis import strategies as st

from harness.sandbox.cell import Cell
from harness.sandbox.diagnose import LAYERS, Culprit, Probe, diagnose, smallest, try_once
from harness.sandbox.policy import STRICT, Relaxation
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


def test_a_file_and_a_system_call_are_named_together():
    """What CUDA does, in a cell without GPUs, whose root has a read-only /proc."""
    if not has_own_proc():
        pytest.skip("a cell has no /proc of its own here, as parts of /proc are covered (see harness doctor)")
    found = diagnose(probe(NAMES_A_THREAD, OFFERS_A_SOCKET), budget_s=300)
    assert not found.works
    alone = {outcome.what for outcome in found.outcomes if not outcome.works}
    assert alone == {"all layers", "landlock alone", "seccomp alone", "private_root alone"}
    assert set(found.culprits) == {
        Culprit("landlock", "write_file below /proc/self/task"),
        Culprit("seccomp", "system call socket"),
    }
    assert found.proven
    assert not found.stopped


@pytest.mark.slow
def test_a_file_that_is_not_mounted_either_is_named(tmp_path: Path):
    firmware = tmp_path / "firmware.bin"
    firmware.write_text("x")
    found = diagnose(probe(f"open({str(firmware)!r}).read()"), budget_s=300)
    assert found.culprits == [Culprit("landlock", f"read_file below {firmware}")]
    assert found.proven


def test_a_layer_without_rules_is_named_as_a_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VENDOR_SWITCH", "on")
    found = diagnose(probe("os.environ['VENDOR_SWITCH']"), budget_s=300)
    assert found.culprits == [Culprit("environment", "the whole layer")]
    assert found.proven


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
    assert try_once(Probe(command, policy(), 60.0, two), "two", STRICT).works
    outcome = try_once(Probe(command, policy(), 60.0, three), "three", STRICT)
    assert not outcome.works
    assert outcome.said == "exit codes [0, 0, 1]"


def test_a_run_s_cell_leaves_nothing_off(tmp_path: Path):
    relaxed = CellSpec("run", ("/bin/true",), {}, ({},), policy(), tmp_path / "log", Relaxation(frozenset({"seccomp"})))
    with pytest.raises(ValueError, match="leaves nothing off"):
        Cell(relaxed, strict=True)


@given(st.sets(st.integers(0, 40), min_size=1, max_size=5), st.integers(41, 60))
def test_the_smallest_set_is_found(needed: set[int], count: int):
    asked = []

    def works(some: list[int]) -> bool:
        asked.append(some)
        return needed <= set(some)

    assert set(smallest(range(count), works)) == needed
    assert len(asked) <= 2 * len(needed) * 8
