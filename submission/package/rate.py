"""Rate–distortion quantisation: steps from sensitivity, rate in the rounding, one Δ for the size (DESIGN.md)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Config
from .calibrate import Statistics
from .contexts import LIMIT, entropy_bits, row_groups
from .gptq import Factor, check_finite, factorise, sweep
from .packed import Matrix, Steps, power_of_quarter

FLOOR = 1e-2  # an output's measured sensitivity counts at least this part of its matrix's mean
HEADROOM = 1.5  # room for the errors that the sweep adds to a weight
ENCODINGS = 8
FINEST = 1e-4  # octaves of Δ: about 0.002 % of the size
ALL_ZERO = 20  # octaves over a step as wide as the weights: nothing is left
RELUCTANCE = math.log(2) / 6  # squared steps a bit: the slope of Δ²/12 where all integers have the same step


@dataclass(frozen=True)
class Plan:
    """What does not depend on Δ, for one matrix (R, C).

    rows (R,), columns (C,): exponents of the steps in quarter octaves, int64; spread (R, C): predicted deviation of a
    weight in steps at Δ = 1; largest (R,): largest weight of each row in steps of its columns.
    """

    weight: Tensor
    factor: Factor
    rows: Tensor
    columns: Tensor
    spread: Tensor
    largest: Tensor

    def rows_at(self, delta: float) -> Tensor:
        """Row exponents, raised where a weight (with room for what the sweep adds) would leave ±LIMIT."""
        needed = (4 * torch.log2(self.largest.double() * HEADROOM / (delta * LIMIT))).ceil().long()
        return torch.maximum(self.rows, needed)


@dataclass(frozen=True)
class Trial:
    """The model at one Δ and the bytes of its integers at the coder's own conditional entropy."""

    log_delta: float
    matrices: dict[str, Matrix]
    entropy: float


class RatePlan:
    """All matrices of a model, ready to be quantised at any Δ."""

    def __init__(self, weights: Mapping[str, Tensor], statistics: Statistics, config: Config) -> None:
        self._plans = {name: _plan(w, statistics, name) for name, w in weights.items()}
        device = next(iter(weights.values())).device
        self._groups = {name: row_groups(name, len(w), config).to(device) for name, w in weights.items()}
        self._shapes: dict[torch.Size, list[str]] = defaultdict(list)
        for name, weight in weights.items():
            self._shapes[weight.shape].append(name)
        self.count = sum(w.numel() for w in weights.values())

    def quantise(self, log_delta: float) -> dict[str, Matrix]:
        """Integers and steps at Δ = 2^log_delta, on the weights' device."""
        delta = 2.0**log_delta
        out: dict[str, Matrix] = {}
        for names in self._shapes.values():
            plans = [self._plans[name] for name in names]
            exponents = [p.rows_at(delta) for p in plans]
            rows = torch.stack([delta * power_of_quarter(e) for e in exponents])
            columns = torch.stack([power_of_quarter(p.columns) for p in plans])
            spread = torch.stack([p.spread for p in plans]) / delta
            reluctance = RELUCTANCE / (2 * math.log(2)) / spread.square().clamp_min(1e-6)
            limit = torch.full_like(rows, LIMIT)
            weights = torch.stack([p.weight for p in plans])
            codes = sweep(weights, [p.factor for p in plans], rows, columns, limit, reluctance)
            for name, code, plan, kept in zip(names, codes, plans, exponents, strict=True):
                out[name] = Matrix(code, None, Steps(delta, kept, plan.columns))
        return {name: out[name] for name in self._plans}

    def entropy_bytes(self, matrices: Mapping[str, Matrix]) -> float:
        """Bytes of all integers at the coder's own conditional entropy."""
        return entropy_bits({n: m.codes for n, m in matrices.items()}, self._groups) / 8

    def trial(self, log_delta: float) -> Trial:
        """The model at Δ = 2^log_delta with its price."""
        matrices = self.quantise(log_delta)
        return Trial(log_delta, matrices, self.entropy_bytes(matrices))

    def first_guess(self, bits: float) -> float:
        """log₂Δ at which a Gaussian of each weight's spread takes ``bits`` on average."""
        total = sum(float(p.spread.clamp_min(1e-12).log2().sum()) for p in self._plans.values())
        return total / self.count - (bits - 0.5 * math.log2(2 * math.pi * math.e))


def fit_rate(
    plan: RatePlan,
    encode: Callable[[dict[str, Matrix]], bytes],
    budget_bytes: int,
    close: float,
    progress: Callable[[float], None],
) -> tuple[bytes, dict[str, Matrix]]:
    """The file of the finest model that fits, within ``close`` (a part) under the budget where Δ allows it.

    The entropy prices a trial; the coder's own size corrects the price. Raises ``ValueError`` with the nearest size.
    """
    target = budget_bytes * (1 - close / 2)
    guess = plan.first_guess(8 * target / plan.count)
    trial = _solve(plan, plan.trial(guess), target, budget_bytes * close / 8)
    too_fine, fits = -math.inf, math.inf  # log₂Δ known to be over the budget, and known to be under it
    best: tuple[bytes, dict[str, Matrix]] | None = None
    for attempt in range(ENCODINGS):
        data = encode(trial.matrices)
        progress((attempt + 1) / ENCODINGS)
        if len(data) > budget_bytes:
            too_fine = max(too_fine, trial.log_delta)
        else:
            fits = min(fits, trial.log_delta)
            if best is None or len(data) > len(best[0]):
                best = data, trial.matrices
            if len(data) >= budget_bytes * (1 - close):
                break
        if fits - too_fine < FINEST:
            break
        overhead = len(data) - trial.entropy
        if target <= overhead and math.isinf(fits):  # is there a size that fits at all?
            fits = plan.first_guess(0) + ALL_ZERO
            smallest = len(encode(plan.quantise(fits)))
            if smallest > budget_bytes:
                raise ValueError(f"the nearest size is {smallest:,} bytes, with all integers zero")
        trial = _solve(plan, trial, max(target - overhead, trial.entropy / 4), budget_bytes * close / 8)
        if not too_fine < trial.log_delta < fits:
            trial = plan.trial((max(too_fine, trial.log_delta - 1) + min(fits, trial.log_delta + 1)) / 2)
    if best is None:
        raise ValueError(f"no step that fits was found in {ENCODINGS} files")
    return best


def _solve(plan: RatePlan, trial: Trial, target: float, tolerance: float) -> Trial:
    """The trial whose entropy is ``target`` bytes, by the known slope (a bit a weight an octave), then secants."""
    slope = -plan.count / 8
    for _ in range(10):
        excess = trial.entropy - target
        change = max(-4.0, min(4.0, excess / slope))
        if abs(excess) <= tolerance or abs(change) < FINEST:
            break
        before = trial
        trial = plan.trial(before.log_delta - change)
        if trial.entropy != before.entropy:
            secant = (trial.entropy - before.entropy) / (trial.log_delta - before.log_delta)
            slope = min(-plan.count / 80, secant)
    return trial


def _plan(weight: Tensor, statistics: Statistics, name: str) -> Plan:
    hessian, gradient = statistics.hessians[name], statistics.gradients[name]
    wide = weight.float()
    check_finite(wide, hessian, gradient)
    factor = factorise(hessian)
    row_price = gradient.clamp_min(FLOOR * float(gradient.mean())).clamp_min(1e-20)
    rows, columns = _exponents(row_price), _exponents(factor.column_weight())
    step = power_of_quarter(rows)[:, None] * power_of_quarter(columns)
    row_spread = wide.square().mean(1).sqrt()
    column_spread = (wide / row_spread.clamp_min(1e-20)[:, None]).square().mean(0).sqrt()
    largest = (wide.abs() / power_of_quarter(columns)).amax(1).clamp_min(1e-20)
    return Plan(wide, factor, rows, columns, row_spread[:, None] * column_spread / step, largest)


def _exponents(price: Tensor) -> Tensor:
    return (-2 * price.double().log2()).round().long()
