"""Damaged model files: a cut, and damage under a checksum that was made to fit again."""

import dataclasses
import functools
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from address_space import at_most_more
from small_models import lively_model, small_config

from harness.protocol.container import read_container, write_container
from submission.config import Config
from submission.package.pack import package_model
from submission.package.packed import ArtifactError, load_packed

CONFIG = small_config(gptq_num_seqs=2, gptq_seq_len=16)
BOUND = 10**8


@functools.cache
def file_of(config: Config) -> bytes:
    return package_model(lively_model(config).float(), config, 10**6, 1, lambda part, text: None).data


@pytest.fixture(scope="module", params=[True, False], ids=["range", "lzma"])
def small(request: pytest.FixtureRequest) -> tuple[bytes, Config]:
    config = dataclasses.replace(CONFIG, quant_rd=request.param)
    return file_of(config), config


def test_a_cut_file_is_refused(small: tuple[bytes, Config]) -> None:
    """Every other flip and cut is the container's own affair."""
    data, config = small
    with pytest.raises(ArtifactError):
        load_packed(data[:-1], config)


def hostile_headers() -> dict[str, bytes]:
    """Texts that a JSON parser answers with other errors than its own."""
    return {
        "deep": b"[" * 900,
        "deeper": b"[" * 200_000,
        "digits": b'{"version": ' + b"9" * 900 + b"}",
        "more digits": b'{"version": ' + b"9" * 5_000 + b"}",
        "exponent": b'{"version": 1e999}',
        "no UTF-8": b'{"version": "\xff"}',
        "NaN": b'{"version": NaN}',
        "long": b'{"coder": "' + b"x" * 100_000 + b'"}',
    }


def wide_tables(count: int) -> bytes:
    """Tables of one symbol each, the first two at the ends of the range."""
    first = (-4096, 4095, *[0] * (count - 2))
    entries = [struct.pack("<BBhH", i // 256, i % 256, at, 1) for i, at in enumerate(first)]
    return struct.pack("<H", count) + b"".join(entries) + bytes([1]) * count


def resealed(config: Config, data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The file with its sections changed and all checksums made to fit."""
    outer = read_container(data, max_unpacked_bytes=BOUND)
    inner = read_container(outer.pop("meta"), max_unpacked_bytes=BOUND) if "meta" in outer else {}
    names, sections = set(inner), outer | inner
    change(sections)
    if not names:
        return write_container(None, sections, codec="none")
    meta = write_container(None, {n: s for n, s in sections.items() if n in names}, codec="none")
    return write_container(None, {n: s for n, s in sections.items() if n not in names} | {"meta": meta}, codec="none")


def test_damage_under_a_fitting_checksum_is_refused_or_gives_a_whole_model(small: tuple[bytes, Config]) -> None:
    data, config = small
    shapes = {name: p.shape for name, p in lively_model(config).named_parameters()}
    random = np.random.default_rng(5)
    outcomes = {"refused": 0, "read": 0}
    for trial in range(80):

        def change(sections: dict[str, bytes], trial: int = trial) -> None:
            name = sorted(sections)[trial % len(sections)]
            section = bytearray(sections[name])
            if not section:
                return
            at = int(random.integers(len(section)))
            kind = int(random.integers(4))
            if kind == 0:
                del section[at:]
            elif kind == 1:
                section += random.bytes(int(random.integers(1, 9)))
            else:
                section[at] ^= 1 << int(random.integers(8))
            sections[name] = bytes(section)

        broken = resealed(config, data, change)
        try:
            with at_most_more(512):
                weights = load_packed(broken, config).weights()
        except ArtifactError:
            outcomes["refused"] += 1
            continue
        assert {name: w.shape for name, w in weights.items()} == shapes
        assert all(bool(torch.isfinite(w).all()) for w in weights.values())
        outcomes["read"] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("kind", hostile_headers())
def test_a_hostile_header_ends_in_one_sentence(small: tuple[bytes, Config], kind: str) -> None:
    data, config = small
    broken = resealed(config, data, lambda sections: sections.update({"header.json": hostile_headers()[kind]}))
    with pytest.raises(ArtifactError) as caught:
        load_packed(broken, config)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("name", ["side.tables", "tables"])
def test_few_bytes_of_tables_do_not_take_gigabytes(name: str) -> None:
    data = file_of(CONFIG)
    for count in (3000, 65535):
        broken = resealed(CONFIG, data, lambda s, count=count: s.update({name: wide_tables(count)}))
        with at_most_more(128), pytest.raises(ArtifactError, match="frequency tables; the format has"):
            load_packed(broken, CONFIG)


def test_a_promise_of_a_huge_body_is_refused_before_it_is_unpacked(small: tuple[bytes, Config]) -> None:
    _, config = small
    bomb = write_container(None, {"header.json": bytes(50_000_000)}, codec="lzma")
    assert len(bomb) < 20_000
    with pytest.raises(ArtifactError, match="at most"):
        load_packed(bomb, config)
