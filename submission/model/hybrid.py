"""The hybrid: Mamba-3 blocks with a few attention blocks, U-Net skips, residual mixing with the embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import BOS, Config
from ..scan.inputs import ScanState
from .attention import Attention, KVCache
from .layers import MLP, rms
from .mamba3 import Mamba3

ModelState = tuple[ScanState | KVCache, ...]


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

    def forward(
        self, x: Tensor, x0: Tensor, state: ScanState | KVCache | None, carry: bool = True, starts: Tensor | None = None
    ) -> tuple[Tensor, ScanState | KVCache | None]:
        """(b, L, width) → (b, L, width) and, where ``carry``, the mixer's new state. starts: as in the mixers."""
        mix = self.mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        mixed, new_state = self.mixer(rms(x), state, carry, starts)
        x = x + self.mixer_scale.to(x.dtype) * mixed
        x = x + self.mlp_scale.to(x.dtype) * self.mlp(rms(x))
        return x, new_state


class Hybrid(nn.Module):
    """Tokens (b, L) → soft-capped logits (b, L, V). The embedding is tied with the head."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.narrow = True  # False keeps float32 on a GPU, for comparisons
        self.first_learning_block = 0  # above 0: no gradient reaches what comes before it, nor the embedding's inputs
        self.embedding = nn.Embedding(config.vocab_size, config.model_dim)
        if not self.embedding.weight.is_meta:
            nn.init.normal_(self.embedding.weight, std=config.tied_embed_init_std)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.skips = config.num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.skips, config.model_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every position, each from the tokens up to it; the state starts at zero."""
        return self.logits(self.stream(tokens))

    def forward_with_state(self, tokens: Tensor, state: ModelState | None) -> tuple[Tensor, ModelState]:
        """Logits and the state after the last token, so that a sequence may be cut anywhere."""
        hidden, new_state = self.hidden(tokens, state)
        return self.logits(hidden), new_state

    def hidden(self, tokens: Tensor, state: ModelState | None = None) -> tuple[Tensor, ModelState]:
        """The normalised stream before the head, (b, L, width), and the new state."""
        hidden, new_state = self._run(tokens, state, True)
        return hidden, tuple(part for part in new_state if part is not None)

    def stream(self, tokens: Tensor) -> Tensor:
        """``hidden`` from the zero state, without the state after the last token: for training."""
        return self._run(tokens, None, False)[0]

    def _run(
        self, tokens: Tensor, state: ModelState | None, carry: bool
    ) -> tuple[Tensor, list[ScanState | KVCache | None]]:
        starts = tokens == BOS if self.config.document_reset else None
        inputs = self.embedding(tokens)  # by the module: packaging watches its output
        x0 = rms((inputs.detach() if self.first_learning_block else inputs).to(self.stream_dtype))
        x = x0
        stack: list[Tensor] = []
        new_state: list[ScanState | KVCache | None] = []
        for index, block in enumerate(self.blocks):
            if self.skips <= index < 2 * self.skips:
                weight = self.skip_weights[index - self.skips]
                weight = weight if index >= self.first_learning_block else weight.detach()
                x = x + weight.to(x.dtype) * stack.pop()
            x, block_state = block(x, x0, None if state is None else state[index], carry, starts)
            new_state.append(block_state)
            if index < self.skips:
                stack.append(x)
        return rms(x), new_state

    @property
    def stream_dtype(self) -> torch.dtype:
        """What the stream is computed in: bfloat16 on a GPU for float32 weights, else the weights' own dtype."""
        weight = self.embedding.weight
        narrow = self.narrow and weight.is_cuda and weight.dtype == torch.float32
        return torch.bfloat16 if narrow else weight.dtype

    def logits(self, hidden: Tensor) -> Tensor:
        """Soft-capped logits of the tied head."""
        return capped_logits(hidden, self.embedding.weight, self.config.logit_softcap)


def capped_logits(hidden: Tensor, embedding: Tensor, cap: float, out: Tensor | None = None) -> Tensor:
    """cap · tanh(h Eᵀ / cap), (…, V) in the dtype of ``hidden``; written into ``out`` if given."""
    return torch.mul(torch.tanh(hidden @ embedding.to(hidden.dtype).T / cap), cap, out=out)


def build_model(config: Config) -> Hybrid:
    """A freshly initialised model; seed torch before."""
    return Hybrid(config)


def parameter_count(config: Config) -> int:
    """Number of parameters, without allocating them."""
    with torch.device("meta"):
        return sum(p.numel() for p in Hybrid(config).parameters())
