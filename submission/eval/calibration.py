"""The last step to the logits that are committed: EVAL_TEMP, and a bias of each token, both from scored tokens only.

EVAL_TEMP divides the soft-capped logits that leave for the referee; the loss of test-time training does not see it. The
bias is added after that division. Both are normalised like everything else, by the referee's softmax over all tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import Config
from ..model.hybrid import capped_logits
from ..train.loss import IGNORED

SLAB_ROWS = 8192


class Calibration:
    """log temperature, shape (1,), and bias, (V,); one gradient step on each scored chunk where a rate is set."""

    def __init__(self, config: Config, like: Tensor) -> None:
        self.config = config
        self._learns = config.eval_temp_lr > 0 or config.eval_bias_lr > 0
        self._log_temp = like.new_full((1,), math.log(config.eval_temp))
        self._bias = like.new_zeros(config.vocab_size if config.eval_bias_lr > 0 else 0)

    def state(self) -> dict[str, Tensor]:
        """What changes; empty when nothing learns."""
        return {"calibration/log_temp": self._log_temp, "calibration/bias": self._bias} if self._learns else {}

    def bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use these tensors from now on."""
        if self._learns:
            self._log_temp, self._bias = buffers["calibration/log_temp"], buffers["calibration/bias"]

    def logits(self, hidden: Tensor, embedding: Tensor, out: Tensor | None = None) -> Tensor:
        """Final logits (rows, V) of hidden rows, in their dtype; written into ``out`` if given."""
        capped = capped_logits(hidden, embedding, self.config.logit_softcap, out)
        if not self._learns and self.config.eval_temp == 1.0:
            return capped
        scaled = torch.mul(capped, torch.exp(-self._log_temp).to(capped.dtype), out=out)
        return torch.add(scaled, self._bias.to(capped.dtype), out=out) if len(self._bias) else scaled

    @torch.no_grad()
    def learn(self, hidden: Tensor, embedding: Tensor, targets: Tensor) -> None:
        """One step down the mean loss of (rows, D) hidden states that were scored. IGNORED targets count zero."""
        if not self._learns:
            return
        counted = (targets != IGNORED).to(self._log_temp.dtype)
        by_bias, by_temp = torch.zeros_like(self._bias), torch.zeros_like(self._log_temp)
        scale = torch.exp(-self._log_temp)
        for start in range(0, len(hidden), SLAB_ROWS):
            rows = slice(start, start + SLAB_ROWS)
            capped = capped_logits(hidden[rows], embedding, self.config.logit_softcap).to(scale.dtype)
            error = torch.softmax(capped * scale + (self._bias if len(self._bias) else 0.0), 1)
            chosen = targets[rows].clamp(min=0)[:, None]
            error.scatter_add_(1, chosen, -torch.ones_like(error[:, :1])).mul_(counted[rows, None])
            by_temp -= (error * capped).sum() * scale
            if len(self._bias):
                by_bias += error.sum(0)
        count = counted.sum()
        self._log_temp -= self.config.eval_temp_lr * torch.nan_to_num(by_temp / count)
        self._log_temp.clamp_(math.log(0.1), math.log(10.0))
        self._bias -= self.config.eval_bias_lr * torch.nan_to_num(by_bias / count)
