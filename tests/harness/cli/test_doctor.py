import json
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness.cli import doctor
from harness.cli.doctor import command
from harness.sandbox.layers import Layer


def test_every_isolation_layer_is_tried_and_named():
    result = CliRunner().invoke(command, ["--json"], standalone_mode=False)
    answer = json.loads(result.output)
    layers = {check["name"]: check["found"] for check in answer["checks"] if check["area"] == "isolation"}
    assert set(layers) == set(Layer)
    assert all(found.startswith(("in force", "missing: ")) for found in layers.values())
    if layers["hard_kill"] == "in force: PID namespace":
        assert layers["private_tmp"].endswith("in a root of its own")
    assert result.return_value == (0 if answer["ok"] else 3)
    assert answer["ok"] == all(check["state"] != "missing" for check in answer["checks"])


def test_a_missing_package_comes_with_the_command_that_installs_it(monkeypatch):
    wanted = [
        "no-such-package-here>=3",
        "click>=999",
        "numpy",
        "no-such-gpu-thing>=1; extra == 'gpu'",
        "x; extra == 'dev'",
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: wanted)
    checks = {check.name: check for check in doctor.package_checks()}
    assert checks["no-such-package-here"].state == "missing"
    assert checks["no-such-package-here"].remedy.endswith("-m pip install 'no-such-package-here>=3'")
    assert checks["click"].state == "missing"
    assert "wanted >=999" in checks["click"].found
    assert checks["numpy"].state == "ok"
    assert checks["no-such-gpu-thing"].state == "note"
    assert "x" not in checks


def test_modules_that_every_cell_would_compile_again_are_noted(monkeypatch, tmp_path):
    def compiled():
        return [check for check in doctor.package_checks() if check.name == "compiled modules"]

    monkeypatch.setattr(doctor.sys, "pycache_prefix", str(tmp_path))
    (check,) = compiled()
    assert check.state == "note"
    assert "-m compileall" in check.remedy
    copy = Path(cache_from_source(find_spec("torch").origin))
    copy.parent.mkdir(parents=True)
    copy.touch()
    assert not compiled()


def test_a_missing_piece_makes_the_command_fail_and_says_what_to_do(monkeypatch):
    lacking = doctor.Check("isolation", "landlock", "missing", "missing: old kernel", "Boot another kernel.")
    monkeypatch.setattr(doctor, "isolation_checks", lambda: [lacking])
    monkeypatch.setattr(doctor, "package_checks", list)
    result = CliRunner().invoke(command, [], standalone_mode=False)
    assert result.return_value == 3
    assert "landlock: Boot another kernel." in result.output


def test_each_track_of_gpus_is_told_whether_they_are_here(monkeypatch):
    def run(command, **_):
        lines = {"index,uuid": "0, GPU-a\n1, GPU-b", "name": "NVIDIA H100 PCIe\nNVIDIA H100 PCIe"}
        asked = [word.removeprefix("--query-gpu=") for word in command if word.startswith("--query-gpu=")]
        return SimpleNamespace(stdout=lines.get(asked[0], "0, NVIDIA H100 PCIe, 1 MiB, 1") if asked else "12.8 True")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor.subprocess, "run", run)
    monkeypatch.setattr(doctor, "cell_checks", lambda **_: [])
    found = {check.name: (check.state, check.found) for check in doctor.gpu_checks()}
    assert found["track 10min_16mb"] == ("note", "wants 8× H100 80GB HBM3, 0 here")
    assert found["track one_gpu_120s"] == ("ok", "wants 1× any GPU, 2 here")
    assert "track smoke" not in found


def test_a_machine_without_gpus_is_told_so_and_passes(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    (check,) = doctor.gpu_checks()
    assert check.state == "note"
    result = CliRunner().invoke(command, ["--gpu"])
    assert result.exit_code == 2
    assert "no /dev/nvidia*" in result.output


OFFERS_A_SOCKET = "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(chr(0) + 'golf-%d' % os.getpid())"
PASSES_MEMORY_ON = """
import ctypes, os, sys
if os.environ.get("RANK") == "1" and ctypes.CDLL(None).shmget(1, 4096, 0o1600) < 0: sys.exit("no System V memory")
"""


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(doctor, "gpu_devices", lambda: (Path("/dev/null"),))
    return monkeypatch


def test_what_frameworks_do_is_tried_in_a_cell_and_what_fails_there_outside(with_gpu):
    """Stand-ins for CUDA, which names a thread and offers a socket, and for ranks that pass memory on."""
    programs = {
        "CUDA": (f"import os, socket; {OFFERS_A_SOCKET}; print('2 devices')", 60.0, 1),
        "torch": ("import os; os.listdir('/root' if os.getuid() == 0 else '/home')", 60.0, 1),
        "torch.compile": ("raise SystemExit('no such device')", 60.0, 1),
        "late": ("import time; time.sleep(600)", 2.0, 1),
        "NCCL": (PASSES_MEMORY_ON, 60.0, 2),
    }
    with_gpu.setattr(doctor, "probes", lambda **_: ((name, *words) for name, words in programs.items()))
    found = {check.name.removesuffix(" in a cell"): check for check in doctor.cell_checks(further=True)}
    assert "nvidia-modprobe" in found["device nodes"].remedy
    assert (found["CUDA"].state, found["CUDA"].found, found["CUDA"].remedy) == ("ok", "2 devices", "")
    assert "PermissionError" in found["torch"].found or "FileNotFoundError" in found["torch"].found
    assert found["torch"].remedy.startswith("It works outside a cell")
    assert found["torch.compile"].found == "no such device"
    assert found["torch.compile"].remedy.startswith("It fails outside a cell too")
    assert found["late"].found.startswith("no end within 2 s. ")
    assert (found["NCCL"].found, found["NCCL"].remedy) == ("no System V memory", "")


def test_nccl_is_tried_where_there_are_two_gpus_and_compiling_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    for count in range(3):
        monkeypatch.setattr(doctor, "usable_gpus", lambda count=count: ("0", "1")[:count])
        tried = {name: ranks for name, program, _, ranks in doctor.probes(further=True) if compile(program, "", "exec")}
        assert tried == {"torch": 1, "torch.compile": 1} | ({"NCCL": 2} if count == 2 else {})
        assert [name for name, *_ in doctor.probes(further=False)] == ["torch", *(["NCCL"] if count == 2 else [])]
