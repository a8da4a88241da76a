"""The signed bound holds for leaks in rows, in chunks, by gain, down to a frequency and under every tolerance."""

import numpy as np
import pytest

from harness.config.tracks import load_track, track_names
from harness.record.predicate import mean_tolerance
from harness.scoring.audit import ROW_SHARE, escaping_nats
from harness.scoring.sample import FLOOR_NATS, draw_audits, draw_by_gain

CHUNKS, ROWS = 2747, 32  # the chunks of an official track; how long they are changes nothing
TOLERANCE, ESCAPE = 2e-2, 2e-3
TRIES = 100
NOTHING = np.empty(0)


def text(random):
    """What the targets cost by the frequency and by an honest submission; texts differ in how hard they are."""
    hard = np.repeat(random.normal(0, 0.15, CHUNKS), ROWS)
    frequency = random.gamma(3.0, 1.6, CHUNKS * ROWS)
    return frequency, np.maximum(0.01, frequency * random.uniform(0.05, 1.3, CHUNKS * ROWS) + hard)


def in_rows(honest, frequency, random):
    return random.permutation(len(honest)), honest


def in_few_chunks(honest, frequency, random):
    chunks = random.permutation(CHUNKS)
    return (chunks[:, None] * ROWS + np.arange(ROWS)).ravel(), honest


def in_late_chunks(honest, frequency, random):
    return np.arange(len(honest))[::-1], honest


def half_of_hard_chunks(honest, frequency, random):
    hardest = np.argsort(-(honest - frequency).reshape(CHUNKS, ROWS).mean(1))
    return (hardest[:, None] * ROWS + np.arange(ROWS // 2)).ravel(), honest


def where_it_gains_most(honest, frequency, random):
    return np.argsort(-honest), honest


def down_to_the_frequency(honest, frequency, random):
    dear = np.flatnonzero(honest > frequency)
    return dear[np.argsort(-(honest - frequency)[dear])], np.minimum(honest - frequency, FLOOR_NATS)


def half_a_nat_each(honest, frequency, random):
    return random.permutation(len(honest)), np.minimum(honest, 0.5)


def under_the_tolerance_of_a_row(honest, frequency, random):
    return np.argsort(honest - frequency)[::-1], np.full(len(honest), 0.99 * TOLERANCE)


KINDS = [
    in_rows, in_few_chunks, in_late_chunks, half_of_hard_chunks, where_it_gains_most, down_to_the_frequency,
    half_a_nat_each, under_the_tolerance_of_a_row,
]  # fmt: skip


def leak_of(worth, rows, most):
    """Leaks of ``most`` in the first ``rows`` that are worth ``worth`` nats a token together, the last one cut."""
    leak = np.zeros(len(most))
    sums = np.cumsum(most[rows])
    last = int(np.searchsorted(sums, worth * len(most)))
    assert last < len(rows), "the text has no room for such a leak"
    leak[rows[: last + 1]] = most[rows[: last + 1]]
    return leak


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.rule("C1-CAUSAL")
def test_a_leak_over_the_signed_bound_escapes_once_in_twenty_at_most(kind):
    random = np.random.default_rng(7)
    frequency, honest = text(random)
    rows, most = kind(honest, frequency, random)
    leak = leak_of(ESCAPE, rows, most)
    nats, allowed = honest - leak, mean_tolerance(TOLERANCE, ESCAPE)
    escaped = 0
    for one in range(TRIES):
        draws = draw_audits(
            nats, frequency, NOTHING, chunk_tokens=ROWS, escape_nats=ROW_SHARE * ESCAPE, secret=one.to_bytes(32, "big")
        )
        assert escaping_nats(draws.by_gain, TOLERANCE, allowed) <= ESCAPE
        found = bool((leak[draws.by_gain.targets] > TOLERANCE).any())
        escaped += not (found or draws.by_gain.estimate(leak.__getitem__) > allowed)
    assert escaped <= 0.05 * TRIES + 3 * np.sqrt(0.05 * 0.95 * TRIES)


@pytest.mark.parametrize("track", track_names())
@pytest.mark.parametrize("mean_weight", [0.5, 2.5, 9.5])
def test_every_track_signs_no_more_than_it_promises(track, mean_weight):
    plan = load_track(track).audit
    draws = draw_by_gain(np.full(50_000, mean_weight), ROW_SHARE * plan.escape_nats, np.random.default_rng(0))
    allowed = mean_tolerance(plan.tolerance_nats, plan.escape_nats)
    assert escaping_nats(draws, plan.tolerance_nats, allowed) <= plan.escape_nats
    assert not load_track(track).official or plan.escape_nats <= 0.002


@pytest.mark.rule("C1-CAUSAL")
def test_a_chunk_far_cheaper_than_the_others_is_always_audited():
    random = np.random.default_rng(3)
    frequency, honest = text(random)
    honest[1800 * ROWS :][:ROWS] = 0.01
    for one in range(20):
        draws = draw_audits(
            honest, frequency, NOTHING, chunk_tokens=ROWS, escape_nats=0.1, secret=one.to_bytes(32, "big")
        )
        assert 1800 in draws.outlier_chunks
        assert any(target // ROWS == 1800 for target in draws.outliers)


def test_what_gains_over_the_packed_model_is_drawn_from_that_alone():
    honest = np.full(4000, 3.0)
    honest[77] = 2.0
    draws = draw_audits(
        honest, np.full(4000, 4.0), np.full(2000, 3.0), chunk_tokens=100, escape_nats=0.1, secret=bytes(32)
    )
    assert set(draws.over_frozen.targets.tolist()) == {77}


@pytest.mark.rule("C1-CAUSAL")
def test_one_absurd_row_of_the_packed_model_does_not_take_all_draws_over_it():
    honest, frozen = np.full(4000, 3.0), np.full(4000, 3.5)
    frozen[5] = 1e9  # by one logit, which costs that diagnostic score as much as its owner likes
    draws = draw_audits(honest, np.full(4000, 4.0), frozen, chunk_tokens=100, escape_nats=0.01, secret=bytes(32))
    assert len(set(draws.over_frozen.targets.tolist())) > 0.9 * draws.over_frozen.draws
