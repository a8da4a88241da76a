"""Phase 3, run by the referee: score the validation stream, chunk after chunk."""

import os

import torch

from harness.protocol.predictor import EvalContext, Predictor
from harness.protocol.serve import serve_predictor

from .config import load_config
from .eval.compile_cache import use_compile_cache
from .eval.load import load_model
from .eval.predictor import HybridPredictor
from .train.group import join, leave
from .train.shares import use_cores


def build(context: EvalContext) -> Predictor:
    """The predictor of this stage."""
    use_compile_cache(context.rank)
    config = load_config(os.environ, os.environ["GOLF_TRACK"])
    gpus = int(os.environ["GOLF_GPUS"])
    use_cores(int(os.environ["GOLF_CPU_CORES"]) // context.world_size, gpus)
    torch.manual_seed(int(os.environ["SEED"]))
    if gpus:
        torch.cuda.set_device(context.rank)
    device = torch.device("cuda", context.rank) if gpus else torch.device("cpu")
    join(context.world_size, device)
    return HybridPredictor(load_model(context, config).to(device), config, context)


if __name__ == "__main__":
    serve_predictor(build)
    leave()
