"""A range coder: static asymmetric numeral systems (rANS, Duda 2013) over interleaved lanes, by numpy (ARTIFACT.md)."""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

PRECISION = 14
TOTAL = 1 << PRECISION
MAX_LANES = 1024
_LOW = 1 << 16

Ints = npt.NDArray[np.int64]


class CoderError(ValueError):
    """A stream or a frequency table that is not what an encoder writes."""


def encode(symbols: npt.NDArray[np.integer], contexts: npt.NDArray[np.integer], frequencies: Ints) -> bytes:
    """Code ``symbols`` (n,), each under the row of ``frequencies`` (contexts, alphabet) that ``contexts`` (n,) names.

    Raises ``CoderError`` for a symbol of frequency zero.
    """
    starts = _starts(frequencies)
    count = len(symbols)
    lanes = max(1, min(MAX_LANES, math.isqrt(count) // 4))
    states = np.full(lanes, _LOW, np.uint64)
    words: list[npt.NDArray[np.uint16]] = []
    flat = frequencies.astype(np.uint64).ravel(), starts.astype(np.uint64).ravel()
    width = frequencies.shape[1]
    for at in range((count - 1) // lanes * lanes, -1, -lanes):
        cells = contexts[at : at + lanes].astype(np.int64) * width + symbols[at : at + lanes]
        frequency, start = flat[0][cells], flat[1][cells]
        if not frequency.all():
            raise CoderError("a symbol has frequency zero in its context.")
        state = states[: len(cells)]
        full = state >= frequency << np.uint64(32 - PRECISION)
        words.append((state[full] & np.uint64(0xFFFF)).astype(np.uint16))
        state[full] >>= np.uint64(16)
        quotient = state // frequency
        state[:] = (quotient << np.uint64(PRECISION)) + (state - quotient * frequency) + start
    body = np.concatenate([np.empty(0, np.uint16), *reversed(words)])
    return b"".join((struct.pack("<H", lanes), states.astype("<u4").tobytes(), body.astype("<u2").tobytes()))


def decode(data: bytes, contexts: npt.NDArray[np.integer], frequencies: Ints) -> npt.NDArray[np.uint16]:
    """The ``len(contexts)`` symbols of a stream. Raises ``CoderError`` unless it is used up exactly."""
    starts, lookup = _starts(frequencies), _lookup(frequencies)
    lanes = int(np.frombuffer(data[:2], "<u2")[0]) if len(data) >= 2 else 0
    head = 2 + 4 * lanes
    if not 1 <= lanes <= MAX_LANES or len(data) < head or len(data) % 2:
        raise CoderError(f"a stream of {len(data):,} bytes cannot hold {lanes} lanes.")
    states = np.frombuffer(data, "<u4", lanes, 2).astype(np.uint32)
    words = np.frombuffer(data, "<u2", offset=head).astype(np.uint32)
    width = frequencies.shape[1]
    frequency, start = frequencies.astype(np.uint32).ravel(), starts.astype(np.uint32).ravel()
    rows = contexts.astype(np.int32)
    out = np.empty(len(contexts), np.uint16)
    used = 0
    for at in range(0, len(contexts), lanes):
        row = rows[at : at + lanes]
        state = states[: len(row)]
        slot = state & np.uint32(TOTAL - 1)
        symbol = lookup[(row << PRECISION) + slot]
        out[at : at + lanes] = symbol
        cell = row * width + symbol
        state[:] = frequency[cell] * (state >> np.uint32(PRECISION)) + slot - start[cell]
        low = np.flatnonzero(state < _LOW)
        if used + len(low) > len(words):
            raise CoderError("the stream ends before its last symbol.")
        state[low] = (state[low] << np.uint32(16)) | words[used : used + len(low)]
        used += len(low)
    if used != len(words) or bool((states != _LOW).any()):
        raise CoderError("the stream does not end with its last symbol.")
    return out


def _starts(frequencies: Ints) -> Ints:
    if frequencies.ndim != 2 or frequencies.size == 0 or int(frequencies.min()) < 0:
        raise CoderError("frequencies are no table of counts.")
    if bool((frequencies.sum(1) != TOTAL).any()):
        raise CoderError(f"frequencies of a context do not sum to {TOTAL}.")
    return frequencies.cumsum(1) - frequencies


def _lookup(frequencies: Ints) -> npt.NDArray[np.uint16]:
    """Symbol of each slot, contexts laid end to end."""
    symbols = np.broadcast_to(np.arange(frequencies.shape[1], dtype=np.uint16), frequencies.shape)
    return np.repeat(symbols.ravel(), frequencies.ravel())
