"""Each thing that a machine may lack ends in one message with its remedy, before anything is compiled."""

import dataclasses

import pytest
import torch
from small_models import small_config

from submission import preflight as checks
from submission.config import ConfigError, load_config
from submission.preflight import NotUsable, check_kernels, check_precision, preflight
from submission.scan import fused

REFERENCE = load_config({"RECIPE": "pr1890"}, "10min_16mb")
CPU = torch.device("cpu")


@pytest.fixture
def triton(monkeypatch):
    """Kernels as if Triton were installed."""
    monkeypatch.setattr(fused, "TRITON", True)


@pytest.mark.parametrize("world", [3, 7, 512])
def test_a_world_size_that_does_not_divide_the_step_names_a_batch_that_does(world):
    with pytest.raises(ConfigError, match=f"256 windows .* does not divide among {world} ranks") as caught:
        preflight(REFERENCE, CPU, "10min_16mb", world)
    tokens = int(str(caught.value).split("TRAIN_BATCH_TOKENS=")[1].split()[0])
    preflight(dataclasses.replace(REFERENCE, train_batch_tokens=tokens), CPU, "10min_16mb", world)


def test_a_gpu_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(NotUsable, match=r"Tesla T4 has no bfloat16 .* compute capability 8\.0"):
        check_precision(torch.device("cuda", 0))


@pytest.mark.parametrize("track", checks.OFFICIAL_TRACKS)
def test_an_official_track_does_not_fall_back_silently(track, monkeypatch):
    monkeypatch.setattr(fused, "TRITON", False)
    with pytest.raises(
        NotUsable, match=rf"official track {track} needs .* Triton is not installed .*MAMBA3_BACKEND=chunked"
    ):
        check_kernels(REFERENCE, track)
    check_kernels(REFERENCE, "one_gpu_120s")
    check_kernels(dataclasses.replace(REFERENCE, mamba3_backend="chunked"), track)


def test_official_tracks_are_the_referees():
    from harness.config.tracks import load_track, track_names

    assert set(checks.OFFICIAL_TRACKS) == {name for name in track_names() if load_track(name).official}


def test_sizes_that_the_kernels_do_not_take_are_named(triton):
    with pytest.raises(NotUsable, match="MAMBA3_HEADDIM and MAMBA3_D_STATE must be powers of two"):
        check_kernels(small_config(mamba3_headdim=8), "10min_16mb")
    check_kernels(REFERENCE, "10min_16mb")


def test_kernels_that_were_asked_for_must_be_there_on_any_track(monkeypatch):
    monkeypatch.setattr(fused, "TRITON", False)
    with pytest.raises(NotUsable, match=r"MAMBA3_BACKEND=fused needs .*Triton is not installed"):
        check_kernels(dataclasses.replace(REFERENCE, mamba3_backend="fused"), "one_gpu_120s")


def test_the_kernels_are_refused_on_a_cpu_track():
    with pytest.raises(NotUsable, match=r"MAMBA3_BACKEND=fused runs on a GPU alone, .* smoke has none: set .*auto"):
        preflight(small_config(mamba3_backend="fused"), CPU, "smoke", 1)
    for other in ("auto", "chunked"):
        preflight(small_config(mamba3_backend=other), CPU, "smoke", 1)
