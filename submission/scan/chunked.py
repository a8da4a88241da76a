"""The Mamba-3 scan in chunks: matrix products inside a chunk, one short loop over chunks.

With the look-ahead state T_t = S_t + β_{t+1} v_t k_tᵀ the two-term update becomes one term of weight
s_t = γ_t + β_{t+1}, where γ = λ·dt and β = (1 - λ)·dt. s_t contains the next token's dt and λ, so the diagonal must
use γ_t alone: that is what keeps y_t causal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..scan.inputs import ScanInputs, ScanState, rotate


def chunked_scan(inputs: ScanInputs, state: ScanState | None, chunk: int) -> tuple[Tensor, ScanState]:
    """Same result as ``sequential_scan`` for any ``chunk`` >= 1, in the dtype of ``inputs.v``.

    Angles, decays and the carried state stay in float32 (float64 for float64 inputs). ``state`` None is the zero state.
    """
    q, k, v, log_decay, dt, lam, omega, d, reset = inputs
    length = q.shape[1]
    gamma, beta = lam * dt, (1 - lam) * dt
    if reset is not None:  # no step looks back over the start of a document
        beta = beta.masked_fill(reset[..., None], 0.0)
        log_decay = log_decay.masked_fill(reset[..., None], 0.0)
    weight = gamma + F.pad(beta[:, 1:], (0, 0, 0, 1))
    pad = -length % chunk
    theta = _angles(omega, dt, None if state is None else state.theta, chunk)
    if reset is not None:
        theta = _restarted(theta, reset, None if state is None else state.theta)
    k, q = rotate(k, theta).to(v.dtype), rotate(q, theta).to(v.dtype)
    diagonal = (gamma * (q * k).sum(-1) + d).to(v.dtype)[..., None] * v
    q_c, v_c = _chunks(q, pad, chunk), _chunks(v, pad, chunk)
    k_c = _chunks(k * weight[..., None].to(k.dtype), pad, chunk)
    decay = _chunks(log_decay[..., None], pad, chunk)[..., 0].cumsum(-1)  # (b, H, C, Q)
    documents = None if reset is None else _chunks(reset[..., None, None], pad, chunk)[..., 0].cumsum(-1)
    within, to_end, from_start, through = _decays(decay, documents)
    scores = (q_c @ k_c.transpose(-1, -2)) * within.to(q.dtype)
    updates = (v_c * to_end[..., None].to(v.dtype)).transpose(-1, -2) @ k_c  # (b, H, C, P, N)
    start = None if state is None else state.s + (beta[:, 0, :, None] * state.v)[..., None] * state.k[..., None, :]
    carried, last = _carry(updates.to(decay.dtype), through, start)
    across = (q_c * from_start[..., None].to(q.dtype)) @ carried.to(q.dtype).transpose(-1, -2)
    y = (scores @ v_c + across).flatten(2, 3)[:, :, :length].transpose(1, 2) + diagonal
    return y, ScanState(theta[:, -1], last, k[:, -1], v[:, -1])


def _decays(decay: Tensor, documents: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Factors inside a chunk (…, Q, Q), from each token to its end (…, Q), from its start (…, Q), over all of it (…).

    decay: cumulative log decay (b, H, C, Q); documents: number of document starts so far in the chunk, broadcastable.
    Tokens of different documents do not meet.
    """
    within = _decay_matrix(decay)
    to_end, from_start, through = (decay[..., -1:] - decay).exp(), decay.exp(), decay[..., -1].exp()
    if documents is not None:
        within = within.masked_fill(documents[..., :, None] != documents[..., None, :], 0.0)
        to_end = to_end.masked_fill(documents != documents[..., -1:], 0.0)
        from_start = from_start.masked_fill(documents > 0, 0.0)
        through = through.masked_fill(documents[..., -1] > 0, 0.0)
    return within, to_end, from_start, through


def _restarted(theta: Tensor, reset: Tensor, start: Tensor | None) -> Tensor:
    """Angles counted anew from each document start: less the angle just before it."""
    index = torch.arange(reset.shape[1], device=reset.device)
    latest = torch.where(reset, index, -1).cummax(1).values  # -1: none yet
    first = torch.zeros_like(theta[:, :1]) if start is None else start[:, None]
    before = torch.cat((first, theta[:, :-1]), 1)
    chosen = latest.clamp(min=0)[..., None, None].expand_as(theta)
    offset = before.gather(1, chosen).masked_fill((latest < 0)[..., None, None], 0.0)
    return (theta - offset) % (2 * math.pi)


def _angles(omega: Tensor, dt: Tensor, start: Tensor | None, chunk: int) -> Tensor:
    """θ (b, L, H, R), modulo 2π: summed inside chunks, so that a long float32 sum loses no digits."""
    step = omega[:, :, None] * dt[..., None]
    length = step.shape[1]
    padded = F.pad(step, (0, 0, 0, 0, 0, -length % chunk))
    parts = padded.view(len(step), -1, chunk, *step.shape[2:]).cumsum(2)
    totals = parts[:, :-1, -1] % (2 * math.pi)
    before = F.pad(totals, (0, 0, 0, 0, 1, 0)).cumsum(1)  # only earlier chunks: causal to the last bit
    if start is not None:
        before = before + start[:, None]
    angles: Tensor = ((parts + before[:, :, None]) % (2 * math.pi)).flatten(1, 2)[:, :length]
    return angles


def _chunks(x: Tensor, pad: int, chunk: int) -> Tensor:
    """(b, L, H, w) → (b, H, C, Q, w), padded with zeros at the end."""
    padded = F.pad(x, (0, 0, 0, 0, 0, pad)).transpose(1, 2)
    return padded.reshape(*padded.shape[:2], -1, chunk, padded.shape[-1])


def _decay_matrix(decay: Tensor) -> Tensor:
    """exp(c_i - c_j) for j < i, else 0; masked before the exponential so that no gradient meets inf · 0."""
    difference = decay[..., :, None] - decay[..., None, :]
    size = decay.shape[-1]
    upper = torch.ones(size, size, dtype=torch.bool, device=decay.device).triu()
    return difference.masked_fill(upper, -math.inf).exp()


def _carry(updates: Tensor, decay: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """State at the start of each chunk (b, H, C, P, N) and after the last one (b, H, P, N)."""
    current = torch.zeros_like(updates[:, :, 0]) if start is None else start
    at_start = []
    for index in range(updates.shape[2]):
        at_start.append(current)
        current = decay[:, :, index, None, None] * current + updates[:, :, index]
    return torch.stack(at_start, 2), current
