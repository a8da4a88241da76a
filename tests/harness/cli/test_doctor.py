import json
from types import SimpleNamespace

from click.testing import CliRunner

from harness.cli import doctor
from harness.cli.doctor import command


def test_every_isolation_layer_is_tried_and_named():
    result = CliRunner().invoke(command, ["--json"])
    answer = json.loads(result.output)
    layers = {check["name"] for check in answer["checks"] if check["area"] == "isolation"}
    assert {"landlock", "seccomp", "network", "hard_kill", "rlimits", "no_new_privs", "private_tmp"} <= layers
    assert result.exit_code == (0 if answer["ok"] else 3)
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


def test_a_missing_piece_makes_the_command_fail_and_says_what_to_do(monkeypatch):
    lacking = doctor.Check("isolation", "landlock", "missing", "missing: old kernel", "Boot another kernel.")
    monkeypatch.setattr(doctor, "isolation_checks", lambda: [lacking])
    monkeypatch.setattr(doctor, "package_checks", list)
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 3
    assert "landlock: Boot another kernel." in result.output


def test_each_track_of_gpus_is_told_whether_they_are_here(monkeypatch):
    def run(command, **_):
        lines = {"index,uuid": "0, GPU-a\n1, GPU-b", "name": "NVIDIA H100 PCIe\nNVIDIA H100 PCIe"}
        asked = [word.removeprefix("--query-gpu=") for word in command if word.startswith("--query-gpu=")]
        return SimpleNamespace(stdout=lines.get(asked[0], "0, NVIDIA H100 PCIe, 1 MiB, 1") if asked else "12.8 True")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor.subprocess, "run", run)
    monkeypatch.setattr(doctor, "_cell_checks", list)
    found = {check.name: (check.state, check.found) for check in doctor.gpu_checks()}
    assert found["track 10min_16mb"] == ("note", "wants 8× H100 80GB HBM3, 0 here")
    assert found["track one_gpu_120s"] == ("ok", "wants 1× any GPU, 2 here")
    assert "track smoke" not in found


def test_a_machine_without_gpus_is_told_so_and_passes(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(doctor.subprocess, "run", absent)
    (check,) = doctor.gpu_checks()
    assert check.state == "note"
