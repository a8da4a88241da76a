"""Every token is read once as new, with the context that the mode promises."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from submission.eval.windows import Cut, cut_targets, cut_windows, new_positions
from submission.train.loss import IGNORED


@given(st.integers(2, 9), st.data())
def test_every_token_is_new_in_exactly_one_window(length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    count = data.draw(st.integers(1, 40))
    least = data.draw(st.integers(0, 12))
    cut = Cut(length, overlap)
    context, tokens = torch.arange(1000, 1000 + overlap), torch.arange(1, count + 1)
    windows = cut_windows(context, tokens, cut, least)
    assert windows.shape == (max(least, cut.count(count)), length)
    assert torch.equal(new_positions(windows, cut, count), tokens)
    goals = cut_targets(tokens, cut, least)
    assert goals.shape == windows.shape
    assert torch.equal(goals[goals != IGNORED], tokens)
    assert torch.equal(windows[goals != IGNORED], tokens), "targets stand at their own positions"


def test_context_is_the_tokens_just_before() -> None:
    windows = cut_windows(torch.tensor([8, 9]), torch.tensor([1, 2, 3]), Cut(4, 2))
    assert windows.tolist() == [[8, 9, 1, 2], [1, 2, 3, 0]]
