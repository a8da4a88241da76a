"""``doctor --gpu`` without a GPU: a stand-in plays CUDA, which needs a file of /proc and a system call."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cells import has_own_proc, policy
from click.testing import CliRunner

from harness.cli import doctor, doctor_gpu
from harness.cli.doctor import command
from harness.cli.doctor_gpu import LAYERS, Diagnosis, Outcome, Probe, diagnose, try_once
from harness.run import cells
from harness.sandbox.cell import Cell
from harness.sandbox.spec import CellSpec

NAMES_A_THREAD = "open('/proc/self/task/%d/comm' % threading.get_native_id(), 'r+').write('cuda')"
OFFERS_A_SOCKET = "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(chr(0) + 'golf-%d' % os.getpid())"


def stand_in(*lines: str, limit_s: float = 60.0) -> Probe:
    program = "\n".join(("import os, socket, threading, time", *lines))
    return Probe((sys.executable, "-I", "-S", "-c", program), policy(), limit_s)


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for module in (cells, doctor_gpu):
        monkeypatch.setattr(module, "gpu_devices", lambda: (Path("/dev/null"),))
    return monkeypatch


def test_what_keeps_cuda_out_is_named(with_gpu):
    """A file and a system call that CUDA needs, in a cell without GPUs, whose root has a read-only /proc."""
    if not has_own_proc():
        pytest.skip("a cell has no /proc of its own here, as parts of /proc are covered (see harness doctor)")
    with_gpu.setattr(doctor_gpu, "SEARCH_S", 300.0)
    with_gpu.setattr(doctor_gpu, "gpu_probe", lambda: stand_in(NAMES_A_THREAD, OFFERS_A_SOCKET))
    result = CliRunner().invoke(command, ["--gpu", "--json"])
    answer = json.loads(result.stdout)
    assert result.exit_code == 3
    assert "seccomp alone: PermissionError" in result.stderr
    assert answer["ok"] is False
    assert answer["gpu"]["culprits"] == ["landlock", "seccomp", "private_root"]
    assert answer["gpu"]["proven"]
    assert not answer["gpu"]["stopped"]
    assert answer["gpu"]["machine"]["kernel"]


def test_a_gpu_that_works_is_tried_further_and_so_are_ranks(with_gpu):
    with_gpu.setattr(doctor_gpu, "SEARCH_S", 300.0)
    with_gpu.setattr(doctor_gpu, "gpu_probe", lambda: stand_in("print('2 devices')"))
    with_gpu.setattr(doctor_gpu, "_further", lambda: [("all layers: torch", stand_in("print('torch 9')"))])
    with_gpu.setattr(doctor_gpu, "nccl_probe", lambda: two_ranks("print('2 ranks summed up, connected by P2P')"))
    result = CliRunner().invoke(command, ["--gpu"])
    assert result.exit_code == 0, result.output
    tried = [line.split(" s  ")[1] for line in result.stderr.splitlines()]
    alone = [f"{layer} alone: 2 devices" for layer in LAYERS]
    ranks = "all layers: 2 ranks summed up, connected by P2P"  # once: what to blame is looked for where it fails
    assert tried == ["no layer: 2 devices", "all layers: 2 devices", *alone, "all layers: torch: torch 9", ranks]
    for what in ("CUDA", "NCCL"):
        assert f"{what} starts in a cell, with every layer in force." in result.stdout


NEEDS_SHARED_MEMORY = (
    "import ctypes, os; code = ctypes.CDLL(None).shmget(1, 4096, 0o1600); "
    "print('2 ranks summed up' if code >= 0 else 'no System V memory'); raise SystemExit(code < 0)"
)


def two_ranks(program: str) -> Probe:
    return replace(stand_in(program), policy=policy(network="loopback"), rank_env=cells.rank_environments(2))


def test_the_layer_that_keeps_ranks_apart_is_named(with_gpu):
    with_gpu.setattr(doctor_gpu, "gpu_probe", lambda: stand_in("print('2 devices')"))
    with_gpu.setattr(doctor_gpu, "_further", lambda: [])
    with_gpu.setattr(doctor_gpu, "nccl_probe", lambda: two_ranks(NEEDS_SHARED_MEMORY))
    result = CliRunner().invoke(command, ["--gpu", "--json"])
    answer = json.loads(result.stdout)
    assert result.exit_code == 3
    assert answer["ok"] is False
    assert answer["gpu"]["works"]
    assert answer["nccl"]["culprits"] == ["seccomp"]


def test_nccl_is_tried_where_there_are_two_gpus(monkeypatch: pytest.MonkeyPatch):
    for count in range(3):
        nodes = tuple(Path(f"/dev/nvidia{index}") for index in range(count))
        monkeypatch.setattr(doctor_gpu, "gpu_devices", lambda nodes=nodes: (*nodes, Path("/dev/nvidiactl")))
        probe = doctor_gpu.nccl_probe()
        assert (probe is not None) == (count == 2)
    assert probe is not None
    assert [rank["RANK"] for rank in probe.rank_env] == ["0", "1"]
    assert probe.policy.network == "loopback"
    compile(probe.argv[-1], "probe", "exec")


def test_without_a_gpu_the_option_says_so():
    result = CliRunner().invoke(command, ["--gpu"])
    assert result.exit_code == 2
    assert "no /dev/nvidia*" in result.output


def test_the_real_probe_says_what_is_missing(with_gpu):
    outcome = doctor_gpu.try_once(doctor_gpu.gpu_probe(), "")
    assert not outcome.works
    assert outcome.said.startswith("libcuda.so.1 does not load")


def test_a_search_that_ran_out_says_so():
    found = Diagnosis([Outcome("all layers", False, 1.0, "cuInit: error 304")], ["landlock"])
    found.stopped = "the time was used up"
    text = doctor_gpu.conclusion(found)
    assert "not proven" in text
    assert "landlock" in text
    assert text.endswith("the time was used up.")


def test_the_table_of_doctor_tries_cuda_in_a_cell(with_gpu):
    with_gpu.setattr(doctor_gpu, "gpu_probe", lambda: stand_in("raise SystemExit('cuInit: error 304')"))
    checks = {check.name: check for check in doctor._cell_checks()}
    assert checks["CUDA in a cell"].state == "missing"
    assert checks["CUDA in a cell"].found == "cuInit: error 304"
    assert "harness doctor --gpu" in checks["CUDA in a cell"].remedy
    assert "nvidia-modprobe" in checks["device nodes"].remedy


def test_what_fails_outside_is_not_the_sandbox_s_fault():
    found = diagnose(stand_in("raise SystemExit('no such device')"))
    assert found.stopped == "it does not work outside the sandbox either"
    assert found.outcomes[0].said == "no such device"
    assert found.culprits == []


def test_a_probe_that_hangs_is_ended_and_so_is_the_search():
    found = diagnose(stand_in("print('waiting', flush=True)", "time.sleep(600)", limit_s=5.0))
    assert found.outcomes[0].said == "no end within 5 s. waiting"
    stopped = diagnose(stand_in(OFFERS_A_SOCKET), budget_s=0.0)
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
