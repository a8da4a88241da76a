"""The secret draws: enough positions whatever the chunks, weights in nats, the same work for every chunk."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.ledger import Chunks, Stream
from harness.scoring.sample import ESCAPE, Keeper, draw_by_gain, draw_rows, frequency_nats

SECRET = bytes(range(32))


def chunks_of(targets, size):
    return Stream(np.zeros(targets + 1, np.int64), np.ones(targets, np.int64), targets).chunks(size)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 600), st.binary(min_size=32, max_size=32))
def test_the_sample_holds_its_positions_or_all_there_are(targets, size, secret):
    chunks = chunks_of(targets, size)
    sample = Keeper(chunks, whole=8, positions=64, secret=secret)
    assert len(sample.rows) == min(64, len(chunks))
    assert len(sample.whole) == min(8, len(chunks))
    assert set(sample.whole) <= set(sample.rows)
    assert all(0 <= row < chunks[chunk][1] for chunk, rows in sample.rows.items() for row in rows)
    assert all(list(rows) == sorted(set(rows)) for rows in sample.rows.values())
    full = {chunk: rows for chunk, rows in sample.rows.items() if chunks[chunk][1] == chunks[0][1]}
    assert sum(map(len, full.values())) >= min(64, len(full) * chunks[0][1]) - -(-64 // len(sample.rows))


def test_forty_million_chunks_are_sampled_without_listing_them():
    sample = Keeper(Chunks(40_000_000, 1), whole=8, positions=64, secret=SECRET)
    assert sum(map(len, sample.rows.values())) == 64
    assert max(sample.rows) < 40_000_000


def test_two_secrets_differ_and_one_is_repeatable():
    chunks = chunks_of(100_000, 100)
    one, other, again = (Keeper(chunks, whole=8, positions=64, secret=s) for s in (SECRET, bytes(32), SECRET))
    assert one.rows != other.rows
    assert (again.rows, again.whole) == (one.rows, one.whole)


@given(st.integers(0, 999))
def test_a_chunk_that_is_not_in_the_sample_has_rows_too(chunk):
    assert len(draw_rows(bytes(32), chunk, 100, 8)) == 8


def random():
    return np.random.default_rng(5)


def test_rows_are_drawn_in_proportion_to_their_weights():
    drawn = draw_by_gain(np.array([0.0, 1.0, 0.0, 3.0]), 1e-3, random())
    assert set(drawn.targets.tolist()) == {1, 3}
    assert np.mean(drawn.targets == 3) == pytest.approx(0.75, abs=0.05)
    assert drawn.nats == 1.0


@pytest.mark.parametrize("escape", [0.002, 0.1, 0.9])
def test_the_bound_is_the_leak_that_all_draws_miss_once_in_twenty(escape):
    drawn = draw_by_gain(np.full(500, 1.0), escape, random())
    assert drawn.bound_nats() <= escape
    assert (1 - drawn.bound_nats() / drawn.nats) ** drawn.draws == pytest.approx(ESCAPE)


def test_nothing_that_can_leak_is_no_draw():
    drawn = draw_by_gain(np.zeros(9), 0.1, random())
    assert (drawn.draws, drawn.nats) == (0, 0.0)


def test_the_estimate_of_a_sum_is_right_though_rows_are_drawn_unevenly():
    weights, leak = random().gamma(1.0, 1.0, 5000) + 0.5, random().uniform(0, 1, 5000)
    drawn = draw_by_gain(weights, 0.002, random())
    assert drawn.estimate(lambda target: leak[target]) == pytest.approx(leak.mean(), rel=0.05)


def test_a_target_costs_its_frequency_in_the_stream():
    assert frequency_nats(np.array([3, 1, 3, 3])) == pytest.approx(-np.log([0.75, 0.25, 0.75, 0.75]))


def keep(rows_of, chunks=6, size=10):
    spans = chunks_of(chunks * size, size)
    keeper = Keeper(spans, whole=2, positions=4, secret=SECRET)
    state = torch.zeros(64, dtype=torch.uint8)
    keeper.reserve(state)
    for chunk in range(chunks):
        state.fill_(chunk)
        keeper.state_place(chunk).copy_(state)
        keeper.slab(chunk, 0, rows_of(chunk, size))
        keeper.scored(chunk)
    return keeper


def test_the_state_before_every_chunk_is_kept():
    keeper = keep(lambda chunk, size: torch.randn(size, 5))
    assert [set(state.tolist()) for state in keeper.states] == [{chunk} for chunk in range(6)]
    assert set(keeper.logits) == {(chunk, row) for chunk, rows in keeper.rows.items() for row in rows}
    assert keeper.degenerate() == ""


@pytest.mark.parametrize(
    ("rows_of", "words"),
    [
        (lambda chunk, size: torch.zeros(size, 5), "every token the same"),
        (lambda chunk, size: torch.arange(5.0).expand(size, 5), "one distribution everywhere"),
        (lambda chunk, size: torch.arange(5.0).expand(size, 5) * (chunk + 1), "all rows of a chunk"),
    ],
    ids=["uniform", "constant", "blind in a chunk"],
)
@pytest.mark.rule("S6-PLAUSIBLE")
def test_a_degenerate_predictor_is_named(rows_of, words):
    assert words in keep(rows_of).degenerate()
