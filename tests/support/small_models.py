"""Configurations small enough for float64 tests of the whole model."""

import dataclasses

import torch

from submission.config import Config, load_config
from submission.model.hybrid import Hybrid, build_model


def small_config(**changes: object) -> Config:
    """The smoke preset, narrower, with the changes."""
    base = {"vocab_size": 64, "model_dim": 32, "mamba3_headdim": 16, "mamba3_d_state": 16, "mamba3_chunk_size": 8}
    return dataclasses.replace(load_config({"RECIPE": "smoke"}, "smoke"), **(base | changes))


def lively_model(config: Config, seed: int = 1) -> Hybrid:
    """A float64 model in which every weight matters: matrices that start at zero are random here."""
    torch.manual_seed(seed)
    model = build_model(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or not parameter.any():
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.embedding.weight.normal_(std=0.5)
    return model
