"""The container: what is written comes back; whatever else is read ends in a ContainerError, within its bounds."""

import hashlib
import lzma
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.protocol.container import ContainerError, read_container, write_container

NAME = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}){0,2}", fullmatch=True)
SECTIONS = st.dictionaries(NAME, st.binary(max_size=200), max_size=5)
CODEC = st.sampled_from(["none", "lzma"])


def sealed(codec: int, body_size: int, stored: bytes, magic: bytes = b"PGA1") -> bytes:
    """A container whose digest is right, whatever is in it: what a careful attacker writes."""
    head = struct.pack("<4sBQQ", magic, codec, body_size, len(stored))
    return head + hashlib.sha256(head + stored).digest() + stored


def body(*entries: tuple[bytes, int], data: bytes = b"", count: int | None = None) -> bytes:
    index = b"".join(bytes([len(name)]) + name + struct.pack("<Q", size) for name, size in entries)
    return struct.pack("<I", len(entries) if count is None else count) + index + data


@given(SECTIONS, CODEC)
@settings(max_examples=15, deadline=None)
def test_what_is_written_comes_back_and_equal_sections_give_equal_bytes(sections, codec):
    data = write_container(None, sections, codec=codec)
    assert read_container(data, max_unpacked_bytes=10_000) == sections
    assert write_container(None, dict(reversed(sections.items())), codec=codec) == data


def test_a_body_of_several_blocks_is_one_stream_that_does_not_depend_on_the_cores(monkeypatch):
    sections = {"a": bytes(range(251)) * 9_000, "b": bytes(3_000_001), "c": b"end"}
    data = write_container(None, sections, codec="lzma")
    assert len(data) < 20_000
    assert read_container(data, max_unpacked_bytes=6_000_000) == sections
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert write_container(None, sections, codec="lzma") == data


@given(st.binary(max_size=400))
def test_any_bytes_end_in_a_container_error(data):
    with pytest.raises(ContainerError):
        read_container(data, max_unpacked_bytes=1000)


@given(SECTIONS, CODEC, st.data())
@settings(max_examples=30, deadline=None)
def test_a_changed_byte_and_a_cut_are_found(sections, codec, draw):
    data = bytearray(write_container(None, sections, codec=codec))
    with pytest.raises(ContainerError):
        read_container(bytes(data[: draw.draw(st.integers(0, len(data) - 1))]), max_unpacked_bytes=10_000)
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(ContainerError):
        read_container(bytes(data), max_unpacked_bytes=10_000)


@given(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_any_body_under_a_right_digest_is_sections_or_a_container_error(codec, size, stored):
    for claimed in (size, len(stored)):
        try:
            found = read_container(sealed(codec, claimed, stored), max_unpacked_bytes=1000)
        except ContainerError:
            continue
        assert sum(map(len, found.values())) <= len(stored)


@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 2**64 - 1)), max_size=4), st.binary(max_size=50))
def test_any_index_is_sections_or_a_container_error(entries, data):
    raw = body(*entries, data=data)
    try:
        found = read_container(sealed(0, len(raw), raw), max_unpacked_bytes=10_000)
    except ContainerError:
        return
    assert all(not name.startswith(("/", ".")) and ".." not in name.split("/") for name in found)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../b", "a//b", ".hidden", "a/.b", "a\\b", "C:x", "", "x" * 201, "a\n", "é"]
)
@pytest.mark.rule("A3-CONTAINER")
def test_a_name_that_is_no_plain_relative_path_is_refused(name):
    with pytest.raises(ContainerError):
        write_container(None, {name: b""}, codec="none")
    raw = name.encode()[:255]
    stored = body((raw, 0))
    with pytest.raises(ContainerError):
        read_container(sealed(0, len(stored), stored), max_unpacked_bytes=10_000)


def test_a_name_twice_and_names_out_of_order_are_refused():
    for names in ((b"a", b"a"), (b"b", b"a")):
        stored = body(*((name, 0) for name in names))
        with pytest.raises(ContainerError, match="out of order or appears twice"):
            read_container(sealed(0, len(stored), stored), max_unpacked_bytes=10_000)


@pytest.mark.rule("A3-CONTAINER")
def test_a_bomb_is_refused_before_it_unpacks():
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "lc": 3, "lp": 0, "pb": 0}]
    stored = lzma.compress(bytes(150_000_000), format=lzma.FORMAT_RAW, filters=filters)
    assert len(stored) < 100_000
    for claimed in (150_000_000, 1000):  # honest about its size, and lying
        tracemalloc.start()
        with pytest.raises(ContainerError):
            read_container(sealed(1, claimed, stored), max_unpacked_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 80_000_000  # LZMA's own dictionary takes 64 MiB
        tracemalloc.stop()


def test_a_promise_of_many_sections_allocates_nothing():
    stored = body(count=2**32 - 1)
    with pytest.raises(ContainerError, match="sections"):
        read_container(sealed(0, len(stored), stored), max_unpacked_bytes=10_000)
