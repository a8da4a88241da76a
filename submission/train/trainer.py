"""One rank's model, optimisers and averaged weights, and the step that ties them together."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from ..config import Config
from ..model.attend import prefer_cudnn
from ..model.hybrid import Hybrid, build_model
from .group import sum_over_ranks
from .loss import softcap_loss
from .muon import Muon
from .qat import QuantisedWeights
from .shares import Loss, Shares


class Trainer:
    """Model, optimisers and averaged weights of one rank. On a GPU forward and backward are one compiled graph.

    After the warm-up a micro-batch is one launch there.
    """

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
        self.recording: Recording | None = None
        self.windows = config.train_batch_tokens // config.train_seq_len // world_size

    def step(self, batch: Tensor, lr_scale: float, momentum: float, quantised: bool) -> Tensor:
        """One optimiser step on this rank's windows (n, length + 1). Returns the mean loss over all ranks, nats.

        Each rank's loss counts one part in ``world_size``, so that sums over the ranks are means.
        """
        self.model.zero_grad(set_to_none=True)
        if self.recording:
            self.recording.zero()
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

    @torch.no_grad()
    def held_out_loss(self, windows: Tensor) -> Tensor:
        """Mean loss on the held-out slice of the train set, shape (), still on the device."""
        parts = torch.split(windows.to(self.device), self.config.train_micro_batch)
        return torch.stack([self._loss(part) * (len(part) / len(windows)) for part in parts]).sum()

    def warm_up(self, held_out_windows: int) -> None:
        """Run everything that the clock will see on synthetic tokens, then restore: nothing compiles inside it."""
        c = self.config
        start = [p.detach().clone() for p in self.model.parameters()]
        tokens = torch.randint(c.vocab_size, (max(self.windows, held_out_windows), c.train_seq_len + 1))
        for quantised in (False, True):
            self.step(tokens[: self.windows], 0.0, 0.0, quantised)
            if self.device.type == "cuda" and not quantised:
                self._record(tokens[: self.windows])
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
        if self.recording and self.recording.fits(windows, weight):
            return self.recording.replay(windows)
        loss = self._loss(windows) * weight
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _record(self, batch: Tensor) -> None:
        """Record a micro-batch, whatever is quantised later; kernels go on one by one where that cannot be done."""
        part = batch[: self.config.train_micro_batch].to(self.device)
        weight = len(part) / len(batch) / self.world_size
        try:
            self.recording = Recording(self._loss, list(self.model.parameters()), part, weight)
        except RuntimeError as error:  # out of memory is one
            print(f"no CUDA graph, kernels are launched one by one: {error}", file=sys.stderr)

    def _sum_gradients(self, total: Tensor) -> None:
        """Add up gradients and loss over the ranks as one message; the gradients become views of it."""
        graded = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for _, g in graded] + [total.view(1)])
        sum_over_ranks(flat)
        *pieces, loss = torch.split(flat, [g.numel() for _, g in graded] + [1])
        for (parameter, gradient), piece in zip(graded, pieces, strict=True):
            parameter.grad = piece.view_as(gradient)
        total.copy_(loss[0])


class Recording:
    """Loss and gradients of a micro-batch of one shape as a CUDA graph: the GPU waits for no launch.

    It reads the weights where they lie, which every update and late QAT leaves in place.
    """

    def __init__(self, loss: Loss, parameters: list[nn.Parameter], windows: Tensor, weight: float) -> None:
        """windows: (n, length + 1), on the GPU; ``loss`` has seen such ones, so that nothing compiles here."""
        self._parameters, self._windows, self._weight = parameters, windows.clone(), weight
        self._gradients = [torch.zeros_like(p) for p in parameters]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # NCCL's own thread asks meanwhile
            weighted = loss(self._windows) * weight
            torch._foreach_add_(self._gradients, torch.autograd.grad(weighted, parameters))
            self._loss = weighted.detach()

    def zero(self) -> None:
        """Let the parameters' gradients be this graph's, zero."""
        torch._foreach_zero_(self._gradients)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def fits(self, windows: Tensor, weight: float) -> bool:
        """Whether the graph is one of such windows."""
        return windows.shape == self._windows.shape and weight == self._weight

    def replay(self, windows: Tensor) -> Tensor:
        """Add to the gradients; the weighted loss, valid until the next replay."""
        self._windows.copy_(windows)
        self._graph.replay()
        return self._loss


def split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(matrices of linear layers, for Muon; small tensors, for Adam); the embedding is in neither."""
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    matrices: list[Tensor] = [p for name, p in model.named_parameters() if name in linear]
    small: list[Tensor] = [
        p for name, p in model.named_parameters() if name not in linear and name != "embedding.weight"
    ]
    return matrices, small
