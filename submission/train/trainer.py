"""One rank's model, optimisers and averaged weights, and the step that ties them together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import Config
from ..model.attend import prefer_cudnn
from ..model.hybrid import Hybrid, build_model
from .group import sum_over_ranks
from .loss import softcap_loss
from .muon import Muon
from .qat import QuantisedWeights
from .shares import Shares


class Trainer:
    """Model, optimisers and averaged weights of one rank. On a GPU forward and backward are one compiled graph."""

    def __init__(self, config: Config, device: torch.device, seed: int, world_size: int, threads: int = 1) -> None:
        """threads: on a CPU, how many share the windows of a micro-batch."""
        torch.manual_seed(seed)
        if device.type == "cuda":
            prefer_cudnn()
        self.config, self.device, self.world_size = config, device, world_size
        self.model: Hybrid = build_model(config).to(device)
        matrices, small = split_parameters(self.model)
        self.muon = Muon(
            matrices,
            lr=config.matrix_lr,
            weight_decay=config.weight_decay,
            steps=config.muon_backend_steps,
            row_normalise=config.muon_eq_r,
        )
        groups = [
            {"params": [self.model.embedding.weight], "lr": config.embed_lr, "base_lr": config.embed_lr},
            {"params": small, "lr": config.scalar_lr, "base_lr": config.scalar_lr},
        ]
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.95), eps=1e-8, fused=device.type == "cuda")
        self.qat = QuantisedWeights(self.model, config)
        self.average = [p.detach().clone() for p in self.model.parameters()]
        compiled = device.type == "cuda"
        self._loss = torch.compile(self._plain_loss, fullgraph=True, dynamic=False) if compiled else self._plain_loss
        self._shares = Shares(self._loss, list(self.model.parameters()), threads) if threads > 1 else None
        self.windows = config.train_batch_tokens // config.train_seq_len // world_size

    def step(self, batch: Tensor, lr_scale: float, momentum: float, quantised: bool) -> Tensor:
        """One optimiser step on this rank's windows (n, length + 1). Returns the mean loss over all ranks, nats.

        Each rank's loss counts one part in ``world_size``, so that sums over the ranks are means.
        """
        self.model.zero_grad(set_to_none=True)
        batch = batch.to(self.device, non_blocking=True)
        total = torch.zeros((), device=self.device)
        with self.qat.in_place(quantised):
            for part in torch.split(batch, self.config.train_micro_batch):
                total += self._accumulate(part, len(part) / len(batch) / self.world_size)
        if self.world_size > 1:
            self._sum_gradients(total)
        for group in self.adam.param_groups:
            group["lr"] = group["base_lr"] * lr_scale
        self.adam.step()
        self.muon.step(lr_scale, momentum)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - self.config.ema_decay)
        return total

    def held_out_loss(self, windows: Tensor) -> Tensor:
        """Mean loss on the held-out slice of the train set, shape (), still on the device.

        By the graph that trains: one for ``no_grad`` would be compiled beside it.
        """
        parts = torch.split(windows.to(self.device), self.config.train_micro_batch)
        return torch.stack([self._loss(part).detach() * (len(part) / len(windows)) for part in parts]).sum()

    def warm_up(self, held_out_windows: int) -> None:
        """Run everything that the clock will see on synthetic tokens, then restore: nothing compiles inside it."""
        c = self.config
        start = [p.detach().clone() for p in self.model.parameters()]
        tokens = torch.randint(c.vocab_size, (max(self.windows, held_out_windows), c.train_seq_len + 1))
        for quantised in (False, True):
            self.step(tokens[: self.windows], 0.0, 0.0, quantised)
        if held_out_windows:
            self.held_out_loss(tokens[:held_out_windows])
        with torch.no_grad():
            for parameter, average, value in zip(self.model.parameters(), self.average, start, strict=True):
                parameter.copy_(value)
                average.copy_(value)
        self.model.zero_grad(set_to_none=True)
        self.adam.state.clear()
        self.muon.reset()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def averaged_weights(self) -> dict[str, Tensor]:
        """The averaged weights by name: what is kept."""
        names = [name for name, _ in self.model.named_parameters()]
        return dict(zip(names, self.average, strict=True))

    def _plain_loss(self, windows: Tensor) -> Tensor:
        hidden = self.model.stream(windows[:, :-1]).flatten(0, 1)
        targets = windows[:, 1:].flatten()
        return softcap_loss(hidden, self.model.embedding.weight, targets, self.config.logit_softcap) / len(targets)

    def _accumulate(self, windows: Tensor, weight: float) -> Tensor:
        if self._shares is not None:
            return self._shares.accumulate(windows, weight)
        loss = self._loss(windows) * weight
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _sum_gradients(self, total: Tensor) -> None:
        """Add up gradients and loss over the ranks as one message; the gradients become views of it."""
        graded = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for _, g in graded] + [total.view(1)])
        sum_over_ranks(flat)
        *pieces, loss = torch.split(flat, [g.numel() for _, g in graded] + [1])
        for (parameter, gradient), piece in zip(graded, pieces, strict=True):
            parameter.grad = piece.view_as(gradient)
        total.copy_(loss[0])


def split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(matrices of linear layers, for Muon; small tensors, for Adam); the embedding is in neither."""
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    matrices: list[Tensor] = [p for name, p in model.named_parameters() if name in linear]
    small: list[Tensor] = [
        p for name, p in model.named_parameters() if name not in linear and name != "embedding.weight"
    ]
    return matrices, small
