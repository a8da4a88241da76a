"""The checkpoint between training and packaging: ``model.safetensors`` (float32) and ``config.json``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from harness.protocol.session import write_whole

from .config import Config, as_scalars
from .model.hybrid import Hybrid, filled

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another configuration."""


def save_checkpoint(folder: Path, weights: dict[str, Tensor], config: Config) -> None:
    """Write the files, each whole or not at all."""
    write_whole(folder / WEIGHTS, save({name: t.detach().float().cpu().contiguous() for name, t in weights.items()}))
    write_whole(folder / CONFIG, json.dumps(as_scalars(config), sort_keys=True, indent=1).encode())


def load_checkpoint(folder: Path, config: Config) -> Hybrid:
    """The model of a checkpoint, on the CPU. Raises ``CheckpointError``."""
    try:
        stored = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no usable checkpoint: {error}") from error
    if not isinstance(stored, dict):
        raise CheckpointError(f"{folder} holds no usable checkpoint: {CONFIG} is no JSON object.")
    wanted = shape_settings(config)
    differing = [
        f"{name}={stored.get(name)} (here {value})" for name, value in wanted.items() if stored.get(name) != value
    ]
    if differing:
        raise CheckpointError(
            f"the checkpoint in {folder} was trained with {', '.join(differing)}; train again, or set these back."
        )
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        raise CheckpointError(f"the checkpoint in {folder} holds NaN or infinite weights; train again.")
    try:
        return filled(config, weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CheckpointError(f"the tensors in {folder} are not those of its own {CONFIG}: {first}") from error


def shape_settings(config: Config) -> dict[str, str | int | float | bool | None]:
    """The settings that decide a model's tensors."""
    prefixes = (
        "VOCAB_SIZE",
        "NUM_",
        "MODEL_DIM",
        "MLP_MULT",
        "MAMBA3_",
        "LOGIT_SOFTCAP",
        "ROPE_BASE",
        "DOCUMENT_RESET",
        "QK_OFFSET",
    )
    how = ("MAMBA3_BACKEND", "MAMBA3_CHUNK_SIZE")  # the scan is computed
    return {n: value for n, value in as_scalars(config).items() if n.startswith(prefixes) and n not in how}
