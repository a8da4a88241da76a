"""The hybrid: Mamba-3 blocks with a few attention blocks, U-Net skips, residual mixing with the embedding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import BOS, Config
from .attention import Attention
from .layers import MLP, rms
from .mamba3 import Mamba3


class Block(nn.Module):
    """x ← a·x + b·x0; x ← x + s₁·mixer(rms x); x ← x + s₂·mlp(rms x); a, b, s per channel."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        width = config.model_dim
        self.mixer: Mamba3 | Attention = Attention(config) if index in config.attention_layers else Mamba3(config)
        self.mlp = MLP(width, config.mlp_dim)
        self.mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))
        self.mixer_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, x0: Tensor, starts: Tensor | None) -> Tensor:
        """(b, L, width) → (b, L, width); starts: as in the mixers."""
        mix = self.mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        x = x + self.mixer_scale.to(x.dtype) * self.mixer(rms(x), starts)
        out: Tensor = x + self.mlp_scale.to(x.dtype) * self.mlp(rms(x))
        return out


class Hybrid(nn.Module):
    """Tokens (b, L) → soft-capped logits (b, L, V). The embedding is tied with the head."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.model_dim)
        if not self.embedding.weight.is_meta:
            nn.init.normal_(self.embedding.weight, std=config.tied_embed_init_std)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.skips = config.num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.skips, config.model_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every position, each from the tokens up to it; the state starts at zero."""
        return self.logits(self.stream(tokens))

    def stream(self, tokens: Tensor) -> Tensor:
        """The normalised stream before the head, (b, L, width)."""
        starts = tokens == BOS if self.config.document_reset else None
        x0 = rms(self.embedding(tokens).to(self.stream_dtype))  # by the module: packaging watches its output
        x = x0
        stack: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if self.skips <= index < 2 * self.skips:
                x = x + self.skip_weights[index - self.skips].to(x.dtype) * stack.pop()
            x = block(x, x0, starts)
            if index < self.skips:
                stack.append(x)
        return rms(x)

    @property
    def stream_dtype(self) -> torch.dtype:
        """What the stream is computed in: bfloat16 on a GPU for float32 weights, else the weights' own dtype."""
        weight = self.embedding.weight
        return torch.bfloat16 if weight.is_cuda and weight.dtype == torch.float32 else weight.dtype

    def logits(self, hidden: Tensor) -> Tensor:
        """Soft-capped logits of the tied head."""
        return capped_logits(hidden, self.embedding.weight, self.config.logit_softcap)


def capped_logits(hidden: Tensor, embedding: Tensor, cap: float, out: Tensor | None = None) -> Tensor:
    """cap · tanh(h Eᵀ / cap), (…, V) in the dtype of ``hidden``; written into ``out`` if given."""
    matrix = embedding.to(hidden.dtype).T
    if out is None:
        return cap * torch.tanh(hidden @ matrix / cap)
    return torch.addmm(out, hidden, matrix, beta=0, alpha=1 / cap, out=out).tanh_().mul_(cap)


def build_model(config: Config) -> Hybrid:
    """A freshly initialised model; seed torch before. Drawn on one thread: sixteen took 27 s, one 4 s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = Hybrid(config)
    torch.set_num_threads(threads)
    return model


def filled(config: Config, weights: Mapping[str, Tensor]) -> Hybrid:
    """A model of these weights, in evaluation mode; nothing is drawn first. Raises ``RuntimeError`` if they misfit."""
    with torch.device("meta"):
        model = Hybrid(config)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def parameter_count(config: Config) -> int:
    """Number of parameters, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in Hybrid(config).parameters())
