"""Small hybrids as predictors under the referee's protocol, for tests of evaluation."""

import copy
import dataclasses

import lab
import small_models
import torch

from harness.protocol.predictor import EvalContext
from submission.config import Config
from submission.eval.predictor import HybridPredictor

STREAM = lab.markov_stream(vocab_size=64, targets=700)


def config(**changes: object) -> Config:
    base = {
        "ttt_optimiser": "sgd",
        "eval_cache_orders": "",
        "ttt_batch_windows": 0,
        "eval_seq_len": 32,
        "ttt_chunk_windows": 4,
        "eval_overlap": 8,
        "ttt_lr": 0.05,
        "ttt_epochs": 2,
    }
    return small_models.small_config(**(base | changes))


def context(stage: str = "final", targets: int = 700, eval_s: float = 1e9) -> EvalContext:
    return EvalContext(stage, None, None, 64, eval_s, targets, 0, 1)  # type: ignore[arg-type]


def builder(settings: Config, hook=lambda predictor: None):
    """A ``build`` that gives every worker the same float32 weights."""
    model = small_models.lively_model(settings).float()

    def build(told: EvalContext) -> HybridPredictor:
        predictor = HybridPredictor(copy.deepcopy(model), settings, dataclasses.replace(told, eval_s=1e9))
        hook(predictor)
        return predictor

    return build


def predictor(settings: Config, **told: object) -> HybridPredictor:
    made = HybridPredictor(small_models.lively_model(settings).float(), settings, context(**told))
    made.bind_state({name: t.clone() for name, t in made.state().items()})
    return made


def rows(one: HybridPredictor, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(list(one.score(inputs)))
