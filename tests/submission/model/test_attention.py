"""Attention against a plain float64 computation of its definition."""

import math

import torch
from small_models import small_config

from submission.model import attention as attention_module
from submission.model.attend import attend, attention_backend
from submission.model.attention import Attention, rotary_table, rotate_halves
from submission.model.layers import rms


def plain_attention(q, k, v):
    """Softmax of q·k / √E over the keys up to each query; heads in groups."""
    _, length, heads, width = q.shape
    group = heads // k.shape[2]
    out = torch.zeros_like(q)
    for i in range(length):
        for h in range(heads):
            seen = slice(0, i + 1)
            scores = (k[:, seen, h // group] * q[:, i, None, h]).sum(-1) / math.sqrt(width)
            out[:, i, h] = (scores.softmax(-1)[..., None] * v[:, seen, h // group]).sum(1)
    return out


def test_grouped_causal_attention():
    g = torch.Generator().manual_seed(1)
    for length in (1, 2, 9):
        q = torch.randn(2, length, 4, 8, generator=g, dtype=torch.float64)
        k, v = (torch.randn(2, length, 2, 8, generator=g, dtype=torch.float64) for _ in range(2))
        assert (attend(q, k, v) - plain_attention(q, k, v)).abs().max() < 1e-12


def test_rotary_scores_depend_on_the_distance_alone():
    attention = Attention(small_config()).double()
    x = torch.randn(1, 1, 1, attention.head_dim, dtype=torch.float64)
    like = torch.zeros((), dtype=torch.float64)
    cos, sin = rotary_table(60, attention.head_dim // 2, attention.rope_base, like)
    turned = rotate_halves(x.expand(1, 60, 1, -1), cos, sin)[0, :, 0]
    scores = turned @ turned.T
    for distance in (1, 5, 17):
        diagonal = scores.diagonal(distance)
        assert (diagonal - diagonal[0]).abs().max() < 1e-12
    assert (turned.norm(dim=-1) - x.norm()).abs().max() < 1e-12


def test_with_an_offset_half_of_a_key_is_the_previous_tokens(monkeypatch):
    """Against keys put together one token and one component at a time."""
    attention = Attention(small_config(qk_offset=True)).double()
    seen = {}
    monkeypatch.setattr(attention_module, "attend", lambda q, k, v, document: seen.update(k=k) or q)
    x = torch.randn(1, 6, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention(x)
        plain = rms(attention.k(x).view(1, 6, attention.kv_heads, attention.head_dim))
    half, slow = attention.head_dim // 2, attention.head_dim // 4
    wanted = torch.zeros_like(plain)
    for t in range(6):
        for e in range(attention.head_dim):
            source = t - 1 if e % half >= slow else t
            wanted[:, t, :, e] = plain[:, source, :, e] if source >= 0 else 0.0
    cos, sin = rotary_table(6, half, attention.rope_base, x)
    assert (seen["k"] - rotate_halves(wanted, cos, sin)).abs().max() < 1e-12


def test_the_back_end_has_a_name():
    assert attention_backend(torch.device("cpu")) == "sdpa"
