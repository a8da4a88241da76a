"""What a machine must have before anything is compiled: each check ends in one message with its remedy."""

from __future__ import annotations

import torch

from .config import Config, ConfigError
from .scan import fused

OFFICIAL_TRACKS = ("10min_16mb", "non_record_16mb")


class NotUsable(RuntimeError):
    """This machine cannot run the configuration; the text says what to change."""


def preflight(config: Config, device: torch.device, track: str, world_size: int) -> None:
    """All checks of training. Raises ``ConfigError`` or ``NotUsable``."""
    check_world_size(config, world_size)
    if device.type != "cuda" and config.mamba3_backend == "fused":
        raise NotUsable(
            f"MAMBA3_BACKEND=fused runs on a GPU alone, and track {track} has none: set MAMBA3_BACKEND=auto or chunked."
        )
    if device.type == "cuda":
        check_precision(device)
        check_kernels(config, track)


def check_world_size(config: Config, world_size: int) -> None:
    """The windows of a step must divide among the ranks. Raises ``ConfigError``."""
    windows = config.train_batch_tokens // config.train_seq_len
    if windows % world_size:
        fitting = -(-windows // world_size) * world_size * config.train_seq_len
        raise ConfigError(
            f"a step of {windows} windows (TRAIN_BATCH_TOKENS / TRAIN_SEQ_LEN) does not divide among {world_size} "
            f"ranks; TRAIN_BATCH_TOKENS={fitting} does."
        )


def check_precision(device: torch.device) -> None:
    """The stream is bfloat16 on a GPU. Raises ``NotUsable``."""
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise NotUsable(
            f"{name} has no bfloat16 arithmetic, which this submission needs on a GPU: use one of compute capability "
            "8.0 or above (A100, H100, RTX 30 and newer), or a CPU track such as smoke."
        )


def check_kernels(config: Config, track: str) -> None:
    """A named back end must be there; ``auto`` may not fall back on an official track. Raises ``NotUsable``."""
    asked = config.mamba3_backend == "fused"
    wanted = "MAMBA3_BACKEND=fused" if asked else f"the official track {track}"
    needed = asked or (config.mamba3_backend == "auto" and track in OFFICIAL_TRACKS)
    if needed and (reason := missing_kernels(config)):
        raise NotUsable(
            f"{wanted} needs the scan's Triton kernels: {reason}; or set MAMBA3_BACKEND=chunked, which is several "
            "times slower."
        )


def missing_kernels(config: Config) -> str:
    """Why the project's own kernels cannot run this configuration, with the remedy; empty when they can."""
    if not fused.TRITON:
        return "Triton is not installed (pip install triton; PyTorch's CUDA wheels bring it)"
    sizes = config.mamba_heads, config.mamba3_headdim, config.mamba3_d_state, config.rotation_angles
    if not fused.usable(*sizes):
        return "MAMBA3_HEADDIM and MAMBA3_D_STATE must be powers of two from 16 on"
    return ""
