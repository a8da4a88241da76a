"""Which rows of failing weights still count, with a stand-in for the model whose NaN spreads backwards."""

import pytest
import torch

from submission.eval.fallback import sound_rows

BAD, WINDOW, COUNT = 63, 8, 40


def rows_of(tokens: torch.Tensor) -> torch.Tensor:
    """A row is the sum of its window so far; one bad token spoils all rows of its window."""
    windows = tokens.double().view(-1, WINDOW)
    spoilt = torch.where((windows == BAD).any(1, keepdim=True), torch.nan, 0.0)
    return (windows.cumsum(1) + spoilt).view(-1, 1)


@pytest.mark.parametrize("second", [None, 3, 21])
@pytest.mark.parametrize("first", range(0, COUNT, 3))
def test_rows_end_before_the_first_token_that_spoils_its_own(first: int, second: int | None) -> None:
    tokens = torch.randint(63, (COUNT,), generator=torch.Generator().manual_seed(first))
    wanted = rows_of(tokens)
    bad = {first} if second is None else {first, second}
    for place in bad:
        tokens[place] = BAD
    assert torch.equal(sound_rows(rows_of, tokens), wanted[: min(bad)])


def test_weights_that_fail_everywhere_cost_one_pass() -> None:
    passes = []

    def broken(tokens: torch.Tensor) -> torch.Tensor:
        passes.append(tokens)
        return torch.full((len(tokens), 1), torch.nan)

    assert len(sound_rows(broken, torch.zeros(COUNT, dtype=torch.int64))) == 0
    assert len(passes) == 1
