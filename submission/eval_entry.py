"""Phase 3, run by the referee: score the validation stream, chunk after chunk."""

import os

import torch

from harness.protocol.predictor import EvalContext, Predictor
from harness.protocol.serve import serve_predictor

from .config import load_config
from .eval.load import load_model
from .eval.predictor import HybridPredictor


def build(context: EvalContext) -> Predictor:
    """The predictor of this stage."""
    config = load_config(os.environ, os.environ["GOLF_TRACK"])
    torch.set_num_threads(int(os.environ["GOLF_CPU_CORES"]))
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(int(os.environ["SEED"]))
    return HybridPredictor(load_model(context, config), config, context)


if __name__ == "__main__":
    serve_predictor(build)
