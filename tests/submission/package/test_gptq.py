"""GPTQ: against an independent float64 reference, row bits, the scale floor, degenerate input."""

import numpy as np
import pytest
import torch

from submission.package.gptq import (
    NotQuantisable,
    factorise,
    gptq_quantise_all,
    percentile_quantise,
    sweep,
)
from submission.package.grid import fake_quantise, qmax_of, row_scales


def gptq_quantise(weight: torch.Tensor, bits: torch.Tensor, hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return gptq_quantise_all([weight], [bits], [hessian])[0]


def layer(rows: int = 24, columns: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=random)
    inputs = torch.randn(400, columns, generator=random) @ mix
    return torch.randn(rows, columns, generator=random), inputs.T @ inputs / 400


def reference(weight: np.ndarray, hessian: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Greedy rounding in float64 by the textbook update of the inverse Hessian, one column removed at a time."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    damped = hessian[np.ix_(order, order)]
    damped = damped + np.eye(len(damped)) * 0.01 * np.diag(damped).mean()
    inverse, work, out = np.linalg.inv(damped), weight[:, order].copy(), np.zeros_like(weight)
    for j in range(weight.shape[1]):
        q = np.round(work[:, j] / step)
        error = (work[:, j] - q * step) / inverse[0, 0]
        work[:, j:] -= error[:, None] * inverse[0]
        inverse = (inverse - np.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
        out[:, order[j]] = q
    return out


def test_sweep_equals_the_float64_reference() -> None:
    weight, hessian = layer()
    step = torch.full((24,), 0.25)
    codes = sweep(weight[None], [factorise(hessian)], step[None], torch.ones(1, 40), torch.full((1, 24), 999.0), None)[
        0
    ]
    wanted = reference(weight.double().numpy(), hessian.double().numpy(), step.double().numpy())
    assert (codes.numpy() == wanted).mean() > 0.995  # a tie on the edge of two integers may fall either way


def test_gptq_beats_rounding_on_the_layers_output() -> None:
    weight, hessian = layer()
    bits = torch.full((24,), 4)
    errors = []
    for codes, scales in (gptq_quantise(weight, bits, hessian), percentile_quantise(weight, bits)):
        error = codes.float() * scales[:, None] - weight
        errors.append(float(((error @ hessian) * error).sum()))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("gptq", [True, False])
def test_each_row_keeps_to_its_own_bits(gptq: bool) -> None:
    weight, hessian = layer()
    bits = torch.tensor([6] * 12 + [8] * 12)
    codes, scales = gptq_quantise(10 * weight, bits, hessian) if gptq else percentile_quantise(10 * weight, bits)
    largest = codes.abs().amax(1)
    assert int(largest[:12].max()) == 31
    assert 100 < int(largest[12:].max()) <= 127
    assert float(scales[:12].mean()) > 3 * float(scales[12:].mean())


def test_the_scale_floor_is_each_rows_own() -> None:
    """A floor of 1/127 on 6-bit rows spreads small rows over four times as many levels: more bytes under LZMA."""
    import lzma

    weight = 0.1 * torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    bits = torch.full((64,), 6)
    scales = row_scales(weight, bits)
    assert torch.equal(scales, (1 / qmax_of(bits)).half().float())

    def packed(step: torch.Tensor) -> tuple[int, int]:
        codes = (weight / step[:, None]).round().clamp(-31, 31).to(torch.int8)
        return len(lzma.compress(codes.numpy().tobytes())), len(codes.unique())

    right, wrong = packed(scales), packed(torch.full((64,), 1 / 127))
    assert right[0] < 0.75 * wrong[0]
    assert right[1] < 0.5 * wrong[1]
    used = fake_quantise(weight, bits) / scales[:, None]
    assert len(used.round().unique()) == right[1]


def test_singular_hessian_dead_columns_and_empty_rows() -> None:
    weight, hessian = layer()
    weight[3] = 0
    hessian[:, 5] = hessian[5] = 0
    for broken in (hessian, torch.zeros_like(hessian), torch.ones_like(hessian)):
        codes, scales = gptq_quantise(weight, torch.full((24,), 6), broken)
        assert not codes[3].any()
        assert torch.isfinite(scales).all()
    codes, _ = gptq_quantise(weight, torch.full((24,), 6), hessian)
    assert not codes[:, 5].any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_in_a_hessian_are_refused(value: float) -> None:
    weight, hessian = layer()
    hessian[0, 0] = value
    with pytest.raises(NotQuantisable, match="NaN or infinity"):
        gptq_quantise(weight, torch.full((24,), 6), hessian)


def heavy_tailed(columns: int, rows: int = 48) -> np.ndarray:
    """Student's t with three degrees of freedom: a few weights of each row are many times the others."""
    return np.random.default_rng(columns).standard_t(3, (rows, columns))


def squared_error(weight: np.ndarray, scales: np.ndarray, qmax: int) -> np.ndarray:
    """Of nearest rounding, row by row, in float64."""
    codes = np.clip(np.round(weight / scales[:, None]), -qmax, qmax)
    return np.asarray(((codes * scales[:, None] - weight) ** 2).sum(1))


@pytest.mark.parametrize(("bits", "qmax"), [(4, 7), (6, 31), (8, 127)])
@pytest.mark.parametrize("columns", [64, 512, 1536])
def test_the_clip_is_never_worse_than_the_maximum_and_better_on_heavy_tails(columns: int, bits: int, qmax: int) -> None:
    weight = heavy_tailed(columns)
    widths = torch.full((len(weight),), bits)
    largest = row_scales(torch.from_numpy(weight), widths).double().numpy()
    _, scales = percentile_quantise(torch.from_numpy(weight), widths)
    plain, clipped = squared_error(weight, largest, qmax), squared_error(weight, scales.double().numpy(), qmax)
    assert (clipped <= plain * (1 + 1e-4)).all()
    if bits < 8 and columns > 64:
        assert clipped.sum() < 0.99 * plain.sum()
        assert (scales.double().numpy() < largest).mean() > 0.3


def test_gptq_weighs_the_clip_by_the_hessian() -> None:
    """Where the outliers' input matters most, nothing is clipped; where it hardly matters, all rows are."""
    weight = torch.randn(48, 512, generator=torch.Generator().manual_seed(0))
    weight[:, 9] = 8
    bits, kept = torch.full((len(weight),), 6), []
    for importance in (1e4, 1e-4):
        diagonal = torch.ones(512)
        diagonal[9] = importance
        _, scales = gptq_quantise(weight, bits, torch.diag(diagonal))
        kept.append(float((scales == row_scales(weight, bits)).float().mean()))
    assert kept[0] == 1
    assert kept[1] == 0


def test_a_hessian_that_no_damping_helps_names_settings_that_need_none() -> None:
    weight, hessian = layer()
    with pytest.raises(NotQuantisable, match="QUANT_RD=0 with USE_GPTQ=0 packs without Hessians"):
        gptq_quantise(weight, torch.full((24,), 6), hessian - 100 * torch.eye(40))
