"""The secret sample: enough positions whatever the chunks, the same work for every chunk, degenerate rows named."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.ledger import Stream
from harness.scoring.sample import AuditSample, Keeper, draw_by_gain, draw_rows, draw_sample


def chunks_of(targets, size):
    return Stream(np.zeros(targets + 1, np.int64), np.ones(targets, np.int64), targets).chunks(size)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 600), st.binary(min_size=32, max_size=32))
def test_the_sample_holds_its_positions_or_all_there_are(targets, size, entropy):
    chunks = chunks_of(targets, size)
    sample = draw_sample(chunks, most_chunks=8, positions=64, entropy=entropy)
    assert len(sample.rows) >= min(8, len(chunks))
    assert all(0 <= row < chunks[chunk][1] for chunk, rows in sample.rows.items() for row in rows)
    assert all(list(rows) == sorted(set(rows)) for rows in sample.rows.values())
    full = {chunk: rows for chunk, rows in sample.rows.items() if chunks[chunk][1] == chunks[0][1]}
    assert sum(map(len, full.values())) >= min(64, len(full) * chunks[0][1]) - sample.rows_each


def test_tiny_chunks_are_audited_in_as_many_chunks_as_it_takes():
    sample = draw_sample(chunks_of(1000, 1), most_chunks=8, positions=64)
    assert len(sample.rows) == sample.positions == 64


def test_forty_million_chunks_are_sampled_without_listing_them():
    sample = draw_sample(chunks_of(40_000_000, 1), most_chunks=8, positions=64)
    assert max(sample.rows) < 40_000_000


def test_two_draws_differ_and_one_is_repeatable_from_its_entropy():
    chunks = chunks_of(100_000, 100)
    one, other = (draw_sample(chunks, most_chunks=8, positions=64) for _ in range(2))
    assert one.rows != other.rows
    assert draw_sample(chunks, most_chunks=8, positions=64, entropy=bytes.fromhex(one.entropy)) == one


@given(st.integers(0, 999))
def test_a_chunk_that_is_not_kept_has_rows_too(chunk):
    assert len(draw_rows(bytes(32), chunk, 100, 8)) == 8


def by_gain(nats, positions=64, surprise=5.0, entropy=bytes(32)):
    rows = {chunk: np.asarray(values, np.float64) for chunk, values in nats.items()}
    sample = AuditSample({next(iter(rows)): tuple(range(positions))}, entropy.hex(), positions)
    return draw_by_gain(sample, rows, {chunk: np.full(len(values), surprise) for chunk, values in rows.items()})


def test_rows_are_drawn_in_proportion_to_what_they_gain():
    few, many = np.full(1000, 4.99), np.full(1000, 5.0)
    few[::100] = 0.0  # 10 rows of 2,000 hold 50 of 59.9 nats
    hits = [by_gain({3: few, 7: many}, entropy=bytes([i]) * 32).rows for i in range(40)]
    assert all(set(rows) == {3} for rows in hits)
    dear = [sum(row % 100 == 0 for row in rows[3]) for rows in hits]
    assert all(count >= 8 for count in dear)


def test_a_run_that_gains_nothing_over_frequency_has_no_such_rows():
    drawn = by_gain({0: [6.0, 9.0, 5.0]})
    assert (drawn.rows, drawn.draws, drawn.bound_nats()) == ({}, 0, 0.0)


def test_the_bound_is_the_leak_that_all_draws_miss_once_in_twenty():
    drawn = by_gain({0: np.full(500, 1.0)})
    assert drawn.nats == pytest.approx(4.0)
    assert (1 - drawn.bound_nats() / drawn.nats) ** drawn.draws == pytest.approx(0.05)


def keep(rows_of, chunks=6, size=10):
    spans = chunks_of(chunks * size, size)
    keeper = Keeper(draw_sample(spans, most_chunks=4, positions=16), spans)
    state = torch.zeros(64, dtype=torch.uint8)
    keeper.reserve(state)
    for chunk in range(chunks):
        state.fill_(chunk)
        keeper.state_place(chunk).copy_(state)
        keeper.slab(chunk, 0, rows_of(chunk, size))
        keeper.scored(chunk, np.full(size, float(chunk)))
    return keeper


def test_kept_states_stay_what_they_were():
    keeper = keep(lambda chunk, size: torch.randn(size, 5))
    assert set(keeper.kept) == set(keeper.sample.rows)
    for chunk, kept in keeper.kept.items():
        assert bool((kept.state == chunk).all())
        assert set(kept.logits) == set(keeper.sample.rows[chunk])
        assert kept.nats[0] == chunk
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
