"""The range coder and its tables: exact round trips, size at the entropy, damaged input refused."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.package.coder import TOTAL, CoderError, decode, encode
from submission.package.contexts import integer_bits, side_classes
from submission.package.stream import pack_arrays, pack_codes, read_arrays, read_codes
from submission.package.tables import pack_tables, read_tables


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 5), st.integers(1, 40))
def test_any_symbols_under_any_tables_come_back(seed: int, count: int, contexts: int, alphabet: int) -> None:
    random = np.random.default_rng(seed)
    counts = {(0, c): (-3, random.integers(0, 50, alphabet) + (np.arange(alphabet) == 0)) for c in range(contexts)}
    tables = read_tables(pack_tables(counts), 1, contexts)
    assert (tables.frequencies.sum(1) == TOTAL).all()
    context = random.integers(0, contexts, count)
    symbols = np.array([random.choice(np.flatnonzero(tables.frequencies[c])) for c in context])
    data = encode(symbols, context, tables.frequencies)
    assert (decode(data, context, tables.frequencies) == symbols).all()


def test_stream_is_within_half_a_percent_of_the_conditional_entropy() -> None:
    random = torch.Generator().manual_seed(3)
    spread = torch.exp(torch.randn(800, 1, generator=random)) * torch.exp(0.4 * torch.randn(1, 512, generator=random))
    codes = (4 * spread * torch.randn(800, 512, generator=random)).round().clamp(-2047, 2047).short()
    groups = torch.zeros(800, dtype=torch.int64)
    sections = pack_codes([codes], [side_classes(codes)], [groups])
    streams = len(sections["codes"]) + len(sections["raw"])
    assert streams <= 1.005 * float(integer_bits({"w": codes}, {"w": groups}, [side_classes(codes)]).sum()) / 8
    assert torch.equal(read_codes(sections, [codes.shape], [side_classes(codes)], [groups])[0], codes)


@pytest.mark.parametrize("fill", [0, 1, -2047, 2047])
def test_constant_matrices_come_back(fill: int) -> None:
    codes = torch.full((7, 5), fill, dtype=torch.int16)
    side, groups = side_classes(codes), torch.full((7,), 3)
    assert torch.equal(read_codes(pack_codes([codes], [side], [groups]), [codes.shape], [side], [groups])[0], codes)


def test_arrays_come_back() -> None:
    arrays = [(0, torch.tensor([1, -5, 400])), (2, torch.arange(-8, 9)), (0, torch.tensor([7]))]
    back = read_arrays(*pack_arrays(arrays), [(group, len(a)) for group, a in arrays])
    assert all(torch.equal(a, b) for (_, a), b in zip(arrays, back, strict=True))


def test_every_truncation_and_flip_of_a_stream_is_refused_or_changes_symbols_only() -> None:
    tables = read_tables(pack_tables({(0, 0): (0, np.array([5, 1, 1, 9]))}), 1, 1)
    context = np.zeros(300, np.int64)
    symbols = np.random.default_rng(0).choice(4, 300, p=[5 / 16, 1 / 16, 1 / 16, 9 / 16])
    data = encode(symbols, context, tables.frequencies)
    for cut in range(len(data)):
        with pytest.raises(CoderError):
            decode(data[:cut], context, tables.frequencies)
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        try:
            assert (decode(broken, context, tables.frequencies) != symbols).any()
        except CoderError:
            continue


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_as_tables_are_refused_or_sum_up(data: bytes) -> None:
    try:
        assert (read_tables(data, 64, 64).frequencies.sum(1) == TOTAL).all()
    except CoderError:
        return


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(0, 0, 0, 1)] * 2, "stands twice"),
        ([(16, 0, 0, 1)], "no context"),
        ([(0, 61, 0, 1)], "no context"),
        ([(i // 61, i % 61, 4095 * (i % 2), 1) for i in range(976)], None),
        ([(i // 61, i % 61, -4096 + 8191 * (i % 2), 1) for i in range(976)], "more than an encoder writes"),
        ([(i // 61, i % 61, 0, 1) for i in range(977)], "977 frequency tables; the format has 976 contexts"),
    ],
)
def test_tables_are_bounded_by_the_contexts_of_the_format(entries: list[tuple[int, ...]], message: str | None) -> None:
    data = struct.pack("<H", len(entries)) + b"".join(struct.pack("<BBhH", *entry) for entry in entries)
    data += bytes([1]) * len(entries)
    if message is None:
        assert read_tables(data, 16, 61).frequencies.shape == (976, 4096)
        return
    with pytest.raises(CoderError, match=message):
        read_tables(data, 16, 61)


def test_a_symbol_without_frequency_is_refused() -> None:
    with pytest.raises(CoderError, match="frequency zero"):
        encode(np.array([1]), np.array([0]), np.array([[TOTAL, 0]]))
