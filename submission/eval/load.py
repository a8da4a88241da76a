"""The model that an evaluation stage starts from."""

from __future__ import annotations

from harness.protocol.predictor import EvalContext

from ..checkpoint import load_checkpoint
from ..config import Config
from ..model.hybrid import Hybrid, filled
from ..package.packed import load_packed


def load_model(context: EvalContext, config: Config) -> Hybrid:
    """The float checkpoint for stage "float", else the packed model. Raises ``CheckpointError``, ``ArtifactError``."""
    if context.stage == "float":
        if context.checkpoint_dir is None:
            raise ValueError("stage float needs the checkpoint folder.")
        return load_checkpoint(context.checkpoint_dir, config)
    if context.model_file is None:
        raise ValueError(f"stage {context.stage} needs the model file.")
    return filled(config, load_packed(context.model_file.read_bytes(), config).weights())
