"""Training speed of the smoke model on a CPU: as it is trained, against the same step in plain PyTorch.

Plain: the same model and optimisers, operators spread over the cores by PyTorch, all logits at once.
"""

import torch
from ratios import Ratio, paired, seconds

from submission.config import load_config
from submission.train.speed import product_flops, training_flops_per_token
from submission.train.trainer import Trainer

CORES, STEPS, PAIRS = 2, 3, 5


class PlainTrainer(Trainer):
    """The reference: one autograd graph over all windows, logits of all tokens together."""

    def _plain_loss(self, windows: torch.Tensor) -> torch.Tensor:
        logits = self.model(windows[:, :-1]).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten())


def measure() -> list[Ratio]:
    config, cpu = load_config({}, "smoke"), torch.device("cpu")
    torch.set_num_threads(CORES)
    ours, plain = Trainer(config, cpu, 1, 1, CORES), PlainTrainer(config, cpu, 1, 1)
    windows = torch.randint(config.vocab_size, (ours.windows, config.train_seq_len + 1))
    check(ours, plain, windows)
    fastest = float("inf")

    def steps(trainer: Trainer) -> float:
        def work() -> None:
            for _ in range(STEPS):
                trainer.step(windows, 1.0, config.muon_momentum, False)

        return seconds(work)

    def own() -> float:
        nonlocal fastest
        took = steps(ours)
        fastest = min(fastest, took / STEPS)
        return took

    row = paired("smoke step over plain PyTorch", own, lambda: steps(plain), pairs=PAIRS, limit=0.8, note="")
    rate = config.train_batch_tokens / fastest
    mfu = rate * training_flops_per_token(config) / product_flops(cpu)
    note = f"{rate:,.0f} tokens/s at best, {CORES} cores, {PAIRS} pairs of {STEPS} steps"
    return [
        Ratio(row.name, row.value, row.low, row.high, row.limit, True, note),
        Ratio("smoke step, FLOP/s over a product's", mfu, mfu, mfu, None, False, "float32, fastest step"),
    ]


def check(ours: Trainer, plain: Trainer, windows: torch.Tensor) -> None:
    """Both compute the same."""
    a, b = (float(trainer.step(windows, 0.0, 0.0, False)) for trainer in (ours, plain))
    if abs(a - b) > 1e-4:
        raise RuntimeError(f"the two steps differ: losses {a} and {b}.")
