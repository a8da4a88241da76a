"""The chunked scan against the token-by-token definition, in float64. Bound 1e-10 unless a test says why not."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scan_inputs import angle_gap, piece, random_inputs, random_state, state_gap

from submission.scan.chunked import chunked_scan
from submission.scan.inputs import ScanInputs, ScanState, zero_state
from submission.scan.sequential import sequential_scan

BOUND = 1e-10


def nothing(batch: int, inputs: ScanInputs) -> ScanState:
    heads, width = inputs.v.shape[2:]
    return zero_state(batch, heads, width, inputs.q.shape[-1], inputs.omega.shape[-1], inputs.v)


@settings(max_examples=40)
@example(1, 64, 2, 8, 64, False, False, 64)
@example(1, 1000, 2, 8, 1000, False, False, 64)
@given(
    st.integers(1, 3), st.integers(1, 70), st.integers(1, 4), st.integers(1, 9), st.integers(0, 10**6),
    st.booleans(), st.booleans(), st.sampled_from([1, 3, 8, 16, 64]),
)  # fmt: skip
def test_chunked_is_sequential_for_any_shape_state_resets_and_chunk(b, length, h, p, seed, resets, carried, chunk):
    inputs = random_inputs(b, length, h, p, 6, 1 + seed % 3, seed, resets=resets)
    state = random_state(b, h, p, 6, 1 + seed % 3, seed + 1) if carried else None
    y, end = chunked_scan(inputs, state, chunk)
    want, want_end = sequential_scan(inputs, state or nothing(b, inputs))
    assert (y - want).abs().max() < BOUND
    assert state_gap(end, want_end) < BOUND


def test_slow_decay_over_1500_tokens():
    inputs = random_inputs(1, 1500, 2, 4, 8, 2, seed=5)
    inputs = inputs._replace(dt=inputs.dt * 0.01, log_decay=-1e-4 * inputs.dt * 0.01)  # A at its floor
    y, end = chunked_scan(inputs, None, 64)
    want, want_end = sequential_scan(inputs, nothing(1, inputs))
    assert (y - want).abs().max() < BOUND
    assert state_gap(end, want_end) < BOUND


@pytest.mark.parametrize("resets", [False, True])
def test_a_sequence_may_be_cut_at_every_point(resets):
    length = 50
    inputs = random_inputs(2, length, 2, 3, 6, 2, seed=1, resets=resets)
    for scan in (lambda x, s: chunked_scan(x, s, 8), lambda x, s: sequential_scan(x, s or nothing(2, x))):
        whole, end = scan(inputs, None)
        for cut in range(1, length):
            first, state = scan(piece(inputs, 0, cut), None)
            second, last = scan(piece(inputs, cut, length), state)
            assert (torch.cat((first, second), 1) - whole).abs().max() < BOUND
            assert state_gap(last, end) < BOUND


def test_a_reset_is_a_new_sequence():
    inputs = random_inputs(1, 60, 2, 3, 6, 2, seed=3)
    reset = torch.zeros(1, 60, dtype=torch.bool)
    reset[0, [20, 21, 45]] = True
    y, end = chunked_scan(inputs._replace(reset=reset), random_state(1, 2, 3, 6, 2, 4), 16)
    alone = [chunked_scan(piece(inputs, a, b), None, 16) for a, b in ((20, 21), (21, 45), (45, 60))]
    assert (y[:, 20:] - torch.cat([part for part, _ in alone], 1)).abs().max() < BOUND
    assert state_gap(end, alone[-1][1]) < BOUND


def _change_from(inputs: ScanInputs, t: int) -> ScanInputs:
    other = random_inputs(*inputs.v.shape[:4], inputs.q.shape[-1], inputs.omega.shape[-1], seed=999)
    parts = {
        name: torch.cat((value[:, :t], getattr(other, name)[:, t:]), 1)
        for name, value in inputs._asdict().items()
        if name not in ("d", "reset")
    }
    return inputs._replace(**parts)


def _leak(scan) -> float:
    """Largest change before t when everything from t on changes."""
    inputs = random_inputs(1, 40, 2, 3, 6, 2, seed=8)
    before = scan(inputs)
    return max(float((scan(_change_from(inputs, t))[:, :t] - before[:, :t]).abs().max()) for t in range(1, 40))


def test_no_output_depends_on_a_later_input():
    assert _leak(lambda x: chunked_scan(x, None, 16)[0]) < 1e-12
    assert _leak(lambda x: sequential_scan(x, nothing(1, x))[0]) < 1e-12


@pytest.mark.parametrize("resets", [False, True])
def test_all_gradients_are_those_of_the_definition(resets):
    """Through the output and the final state, into every input and the carried state."""
    inputs = random_inputs(2, 37, 2, 3, 6, 2, seed=10, resets=resets)
    state = random_state(2, 2, 3, 6, 2, seed=11)
    names = [name for name in inputs._fields if name != "reset"]
    leaves = [getattr(inputs, name).requires_grad_() for name in names] + [part.requires_grad_() for part in state]
    weights = random_inputs(2, 37, 2, 3, 6, 2, seed=12)
    end_weights = random_state(2, 2, 3, 6, 2, seed=13)

    def gradients(scan):
        y, end = scan(inputs, state)
        loss = (y * weights.v).sum() + sum((a * b).sum() for a, b in zip(end, end_weights, strict=True))
        return torch.autograd.grad(loss, leaves)

    want = gradients(sequential_scan)
    got = gradients(lambda x, s: chunked_scan(x, s, 8))
    for name, a, b in zip([*names, *ScanState._fields], got, want, strict=True):
        assert (a - b).norm() <= BOUND * max(float(b.norm()), 1.0), name


def test_float32_stays_close_to_float64_over_2048_tokens():
    wide = random_inputs(1, 2048, 2, 16, 32, 8, seed=15)
    narrow = ScanInputs(*(None if part is None else part.float() for part in wide))
    y, end = chunked_scan(narrow, None, 64)
    want, want_end = chunked_scan(ScanInputs(*(None if p is None else p.float().double() for p in wide)), None, 64)
    assert (y - want).norm() / want.norm() < 1e-5
    assert (end.s - want_end.s).norm() / want_end.s.norm() < 1e-4
    assert angle_gap(end.theta.double(), want_end.theta) < 1e-3


def test_16_bit_queries_keys_and_values_give_16_bit_outputs():
    """As on a GPU without the kernels: steps, decays and angles in float32, the rest in bfloat16."""
    exact = random_inputs(2, 300, 2, 8, 16, 4, seed=11)
    narrow = {name: getattr(exact, name).bfloat16() for name in ("q", "k", "v")}
    rest = {name: getattr(exact, name).float() for name in ("log_decay", "dt", "lam", "omega", "d")}
    y, _ = chunked_scan(exact._replace(**narrow, **rest), None, 64)
    want, _ = sequential_scan(exact, nothing(2, exact))
    assert y.dtype == torch.bfloat16
    assert (y.double() - want).norm() / want.norm() < 2e-2


def test_masked_decay_has_finite_gradients_where_the_exponent_is_huge():
    inputs = random_inputs(1, 32, 1, 2, 4, 1, seed=16)
    log_decay = (inputs.log_decay * 1e4).requires_grad_()
    y, _ = chunked_scan(inputs._replace(log_decay=log_decay), None, 32)
    (gradient,) = torch.autograd.grad(y.sum(), [log_decay])
    assert torch.isfinite(gradient).all()
