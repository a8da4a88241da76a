"""The cache against a dictionary that is filled token by token, and its mixture against the definition in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_config

from submission.config import ConfigError, load_config
from submission.eval.cache import FLOOR, LEVELS, MOST, PRIOR, RUNS, Candidates, SuccessorCache

CPU = torch.device("cpu")


def cache(orders: str = "1,2,4", slots: int = 1 << 16) -> SuccessorCache:
    return SuccessorCache(small_config(eval_cache_orders=orders, eval_cache_slots=slots), CPU)


def one_by_one(stream: list[int], order: int) -> list[tuple[int, int, int]]:
    """(token, second, run) that ``order`` offers at each row, from a dictionary of contexts."""
    known: dict[tuple[int, ...], tuple[int, int, int]] = {}
    padded = [-1] * (order - 1) + stream
    offers = []
    for row in range(len(stream) - 1):
        context = tuple(padded[row : row + order])
        token, second, run = known.get(context, (-1, -1, 0))
        offers.append((token, second, run))
        new = stream[row + 1]
        known[context] = (new, second, run + 1) if new == token else (new, token, 1)
    return offers


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_offers_are_what_a_dictionary_knows_wherever_chunks_end(stream: list[int], sizes: list[int]) -> None:
    one, tokens, start = cache(), torch.tensor(stream), 0
    wanted = {order: one_by_one(stream, order) for order in one.orders}
    while start < len(stream) - 1:
        end = min(start + sizes[start % len(sizes)], len(stream) - 1)
        inputs, targets = tokens[start:end], tokens[start + 1 : end + 1]
        offered = one.candidates(inputs)
        for order, offer in zip(one.orders, offered, strict=True):
            found = torch.stack((offer.token, offer.second, offer.run), 1).tolist()
            assert [tuple(row) for row in found] == wanted[order][start:end]
        one.learn(inputs, targets, one.mix(torch.zeros(end - start, 4), offered))
        start = end


def test_the_mixture_is_normalised_and_is_the_definition() -> None:
    one = cache("1,3")
    generator = torch.Generator().manual_seed(2)
    one.state()["cache/explained"].uniform_(0.1, 9.0, generator=generator)
    logits = 3 * torch.randn(50, 64, generator=generator, dtype=torch.float64)
    tokens = torch.randint(3, (51,), generator=generator)
    one.learn(tokens[:-1], tokens[1:], one.mix(logits.clone(), one.candidates(tokens[:-1])))
    offered = one.candidates(tokens[:-1])
    mixed = logits.clone()
    one.mix(mixed, offered)
    state = one.state()
    shares = state["cache/explained"] / state["cache/seen"]
    for row in range(50):
        p = torch.softmax(logits[row], 0)
        for index, offer in enumerate(offered):
            for rank, candidate in ((1, int(offer.second[row])), (0, int(offer.token[row]))):
                if candidate < 0:
                    continue
                level = min(LEVELS - 1, max(0, int((math.log(float(p[candidate])) / -FLOOR + 1) * LEVELS)))
                share = float(shares[index, rank, min(RUNS - 1, int(offer.run[row])) * LEVELS + level])
                p = p * (1 - min(share, MOST))
                p[candidate] += min(share, MOST)
        torch.testing.assert_close(torch.softmax(mixed[row], 0), p, rtol=1e-4, atol=1e-6)


def test_what_explains_the_text_gains_weight_and_what_does_not_loses_it() -> None:
    one, random = cache("2"), torch.Generator().manual_seed(3)
    for repeats, bound in ((True, 0.9), (False, 0.01)):
        one = cache("2")
        period = torch.randint(64, (40,), generator=random)
        for _ in range(6):
            tokens = (
                torch.cat((period.repeat(5), period[:1])) if repeats else torch.randint(64, (201,), generator=random)
            )
            one.learn(tokens[:-1], tokens[1:], one.mix(torch.zeros(200, 64), one.candidates(tokens[:-1])))
        state = one.state()
        used = state["cache/seen"][0, 0] > 100
        share = (state["cache/explained"][0, 0] / state["cache/seen"][0, 0])[used]
        assert len(share)
        assert bool((share > bound).all() if repeats else (share < PRIOR).all()), share


def test_no_row_sees_what_stands_behind_it() -> None:
    one, random = cache("1,2", slots=7), torch.Generator().manual_seed(4)
    tokens = torch.randint(4, (101,), generator=random)
    one.learn(tokens[:50], tokens[1:51], one.mix(torch.zeros(50, 4), one.candidates(tokens[:50])))
    inputs, other = tokens[50:100], torch.cat((tokens[50:80], torch.randint(4, (20,), generator=random)))
    for mine, theirs in zip(one.candidates(inputs), one.candidates(other), strict=True):
        assert all(torch.equal(a[:30], b[:30]) for a, b in zip(mine, theirs, strict=True))
    cut = one.candidates(inputs[:30])
    assert all(torch.equal(a[:30], b) for a, b in zip(one.candidates(inputs)[1], cut[1], strict=True))


def test_a_full_table_forgets_but_offers_no_token_of_another_context() -> None:
    """With one slot only the latest context is known, and a check keeps others from taking its successor."""
    one = cache("2", slots=1)
    tokens = torch.tensor([5, 6, 7, 8, 9])
    one.learn(tokens[:-1], tokens[1:], one.mix(torch.zeros(4, 64), one.candidates(tokens[:-1])))
    assert [int(o) for o in one.candidates(torch.tensor([7]))[0].token] == [-1]
    again = one.candidates(torch.tensor([1, 7, 8]))[0]
    assert isinstance(again, Candidates)
    assert again.token.tolist() == [-1, -1, 9]


@pytest.mark.parametrize("value", ["0", "2,1", "1,1", "two", "33", "1,,2"])
def test_orders_that_make_no_sense_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="EVAL_CACHE_ORDERS"):
        load_config({"EVAL_CACHE_ORDERS": value}, "smoke")
