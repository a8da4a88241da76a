"""A1-HARDWARE in refereed records: what ran on other GPUs than its track's says so."""

import pytest

from harness.config.tracks import load_track
from harness.rules import Verdict
from harness.run.machine import gpu_names
from harness.run.verdicts import hardware_findings

SXM, PCIE, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H200"
OFFICIAL = load_track("10min_16mb")


def test_the_track_s_gpus_pass():
    (found,) = hardware_findings(OFFICIAL.hardware, [SXM] * 8)
    assert (found.rule, found.verdict, found.message) == ("A1-HARDWARE", Verdict.PASS, f"8× {SXM}.")


@pytest.mark.rule("A1-HARDWARE")
@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ([H200] * 8, "8× NVIDIA H200"),
        ([PCIE] * 8, "8× NVIDIA H100 PCIe"),
        ([SXM] * 7 + [H200], f"7× {SXM}, 1× NVIDIA H200"),
        ([SXM] * 7, f"7× {SXM}"),
        ([], "no GPU that nvidia-smi names"),
    ],
)
def test_other_gpus_are_a_warning_that_names_them(gpus: list[str], words: str):
    (found,) = hardware_findings(OFFICIAL.hardware, gpus)
    assert (found.rule, found.verdict, found.found) == ("A1-HARDWARE", Verdict.WARN, words)
    assert found.wanted == "8× H100 80GB HBM3"
    assert found.remedy


@pytest.mark.parametrize("name", ["smoke", "one_gpu_120s", "non_record_16mb"])
def test_a_track_that_names_no_model_says_nothing(name: str):
    assert hardware_findings(load_track(name).hardware, [H200]) == []


def test_the_run_s_own_gpus_are_named_and_no_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("harness.run.machine.nvidia_smi", lambda *words: [" ".join(words)])
    assert gpu_names(("2", "3")) == ["--query-gpu=name -i 2,3"]
    assert gpu_names(()) == []
