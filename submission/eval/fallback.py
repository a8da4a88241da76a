"""The rows that failing weights still give, each chosen by the tokens up to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def sound_rows(read: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Rows (k, D) up to the first that its own past makes infinite or NaN; k is 0 where the weights fail everywhere.

    A masked product adds 0 · NaN, so which rows of a chunk come out finite depends on later tokens, and may decide
    nothing. Here a row is asked with its own token in place of all that follow. Row 0 first, then by halves.

    read: tokens (n,) → rows (n, D)
    """
    asked, sound, unsound = 0, 0, len(tokens)
    rows = tokens.new_empty(0)
    while sound < unsound:
        past = torch.where(torch.arange(len(tokens), device=tokens.device) > asked, tokens[asked], tokens)
        found = read(past)
        if bool(torch.isfinite(found[: asked + 1]).all()):
            sound, rows = asked + 1, found
        elif asked == 0:
            return found[:0]
        else:
            unsound = asked
        asked = (sound + unsound) // 2
    return rows[:sound]
