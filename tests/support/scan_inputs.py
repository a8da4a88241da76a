"""Random inputs for the Mamba-3 scan, in float64, with every quantity free."""

import math

import torch
from torch import Tensor

from submission.scan.inputs import ScanInputs, ScanState


def random_inputs(
    batch: int, length: int, heads: int, width: int, state: int, angles: int, seed: int, *, resets: bool = False
) -> ScanInputs:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    dt = torch.nn.functional.softplus(normal(batch, length, heads))
    return ScanInputs(
        q=normal(batch, length, heads, state),
        k=normal(batch, length, heads, state),
        v=normal(batch, length, heads, width),
        log_decay=-torch.nn.functional.softplus(normal(batch, length, heads)) * dt,
        dt=dt,
        lam=normal(batch, length, heads).sigmoid(),
        omega=math.pi * normal(batch, length, angles).tanh(),
        d=normal(heads),
        reset=torch.rand(batch, length, generator=g) < 0.1 if resets else None,
    )


def random_state(batch: int, heads: int, width: int, state: int, angles: int, seed: int) -> ScanState:
    g = torch.Generator().manual_seed(seed)
    draw = [(batch, heads, angles), (batch, heads, width, state), (batch, heads, state), (batch, heads, width)]
    return ScanState(*(torch.randn(*shape, generator=g, dtype=torch.float64) for shape in draw))


def piece(inputs: ScanInputs, start: int, end: int) -> ScanInputs:
    """Tokens start to end."""
    parts = {name: value[:, start:end] for name, value in inputs._asdict().items() if name != "d" and value is not None}
    return inputs._replace(**parts)


def angle_gap(a: Tensor, b: Tensor) -> float:
    """Largest difference modulo 2π."""
    gap = (a - b) % (2 * math.pi)
    return float(torch.minimum(gap, 2 * math.pi - gap).max())


def state_gap(a: ScanState, b: ScanState) -> float:
    """Largest difference of any part."""
    parts = [float((x - y).abs().max()) for x, y in zip(a[1:], b[1:], strict=True)]
    return max(angle_gap(a.theta, b.theta), *parts)
