"""The score ledger: order, single pass, coverage, and sums that no chunking can move."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.ledger import OutOfOrder, ScoreLedger, Stream


def make_stream(targets=100):
    return Stream(np.arange(targets + 1), np.arange(targets) % 5, targets)


@pytest.mark.rule("C3-SCORE-BEFORE-UPDATE")
def test_c3_targets_cannot_be_had_before_their_commit():
    ledger = ScoreLedger(make_stream())
    first, longer = (ledger.seal(0, count, torch.from_numpy) for count in (10, 11))
    with pytest.raises(OutOfOrder):
        first.open()
    ledger.commit(0, 0, np.ones(10))
    assert first.open().tolist() == list(range(1, 11))
    with pytest.raises(OutOfOrder):
        longer.open()


@pytest.mark.rule("C4-SINGLE-PASS")
@pytest.mark.parametrize(("start", "count"), [(0, 10), (5, 10), (11, 10), (10, 91)])
def test_c4_nothing_is_committed_twice_out_of_order_or_beyond_the_end(start, count):
    ledger = ScoreLedger(make_stream())
    ledger.commit(0, 0, np.ones(10))
    with pytest.raises(OutOfOrder):
        ledger.commit(1, start, np.ones(count))
    assert ledger.committed == 10


@settings(max_examples=60, deadline=None)
@given(
    nats=st.lists(st.floats(0, 50, allow_nan=False), min_size=1, max_size=200),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_the_sum_is_exact_whatever_the_chunks(nats, sizes):
    stream = make_stream(len(nats))
    ledger, at, chunk = ScoreLedger(stream), 0, 0
    while at < len(nats):
        size = min(sizes[chunk % len(sizes)], len(nats) - at)
        ledger.commit(chunk, at, np.array(nats[at : at + size]))
        at, chunk = at + size, chunk + 1
    total, targets, n_bytes = ledger.totals()
    assert total == float(sum(map(Fraction, nats)))
    assert (targets, n_bytes) == (len(nats), int(stream.target_bytes.sum()))


@pytest.mark.rule("C4-COVERAGE")
@given(targets=st.integers(1, 500), chunk=st.integers(1, 600))
def test_c4_chunks_cover_every_target_once_with_the_tail(targets, chunk):
    seen = [i for start, count in make_stream(targets).chunks(chunk) for i in range(start, start + count)]
    assert seen == list(range(targets))


@pytest.mark.rule("A7-BPB")
def test_a7_running_score_ends_at_the_score():
    stream = make_stream(1000)
    ledger = ScoreLedger(stream)
    for chunk in range(500):
        ledger.commit(chunk, 2 * chunk, np.array([1.5, 0.25]))
    points = ledger.running_bpb()
    nats, targets, n_bytes = ledger.totals()
    assert len(points) <= 200
    assert points[-1][0] == targets == 1000
    assert points[-1][1] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-12)
    place, bpb = points[7]
    assert bpb == pytest.approx(0.875 * place / math.log(2) / stream.target_bytes[:place].sum(), rel=1e-12)


def total(nats):
    ledger = ScoreLedger(make_stream(len(nats)))
    ledger.commit(0, 0, nats)
    return ledger.totals()[0]


@pytest.mark.rule("A7-BPB")
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), gpus=st.sampled_from([1, 2, 8]), chunk=st.integers(1, 9000))
def test_a7_a_billionth_of_a_bpb_is_meaningful_whatever_the_chunks_and_the_gpus(seed, gpus, chunk):
    """Shares of 151 M bytes, dealt to GPUs chunk by chunk, sum to the same number to the last bit."""
    n_bytes, count = 151_079_964, 200_000
    nats = np.random.default_rng(seed).gamma(2.0, 1.3, count) * (n_bytes * math.log(2) * 1.1 / (count * 2.6))
    whole = total(nats)
    chunks = [nats[at : at + chunk] for at in range(0, count, chunk)]
    dealt = np.concatenate([part for gpu in range(gpus) for part in chunks[gpu::gpus]])
    assert total(dealt) == whole
    true = sum(map(Fraction, nats[:2000].tolist()))
    assert total(nats[:2000]) == float(true)
    one_step = math.ulp(whole) / math.log(2) / n_bytes
    assert one_step < 1e-9 / 1000
    naive = float(np.cumsum(nats.astype(np.float32))[-1])
    assert abs(naive - whole) / math.log(2) / n_bytes > 1e-9
