"""Damaged model files: every byte, every cut, and damage under a checksum that was made to fit again."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_models import lively_model, small_config

from harness.protocol.container import ContainerError, read_container, write_container
from submission.config import Config, load_config
from submission.model.hybrid import build_model
from submission.package.pack import package_model
from submission.package.packed import ArtifactError, load_packed

CONFIG = small_config(gptq_num_seqs=2, gptq_seq_len=16)
HEAD = 53  # bytes before the body
BOUND = 10**8


def file_of(config: Config, trained: bool = False) -> bytes:
    torch.manual_seed(0)
    model = build_model(config) if trained else lively_model(config)
    return package_model(model.float(), config, 10**6, 1, lambda: torch.zeros(1), lambda part, text: None).data


@pytest.fixture(scope="module", params=["range", "lzma"])
def small(request: pytest.FixtureRequest) -> tuple[bytes, Config]:
    config = dataclasses.replace(CONFIG, coder=request.param)
    return file_of(config), config


def refused(data: bytes) -> bool:
    """Whether the container's own check, the first thing that ``load_packed`` does, refuses ``data``."""
    try:
        read_container(data, max_unpacked_bytes=BOUND)
    except ContainerError:
        return True
    return False


def survivors(data: bytes) -> list[int]:
    """Places where a flip of one bit (a different one at each place) or a cut goes unseen."""
    broken = bytearray(data)
    unseen = []
    for at in range(len(data)):
        broken[at] ^= 1 << at % 8
        if not refused(bytes(broken)):
            unseen.append(at)
        broken[at] = data[at]
    return unseen + [cut for cut in range(len(data)) if not refused(data[:cut])]


def test_every_flip_and_cut_of_a_small_file_is_refused(small: tuple[bytes, Config]) -> None:
    data, config = small
    assert not refused(data)
    assert survivors(data) == []
    with pytest.raises(ArtifactError):
        load_packed(data[:-1], config)


def test_every_value_of_every_byte_of_the_head_is_refused(small: tuple[bytes, Config]) -> None:
    data, config = small
    for at in range(HEAD):
        for value in range(256):
            if value != data[at]:
                assert refused(data[:at] + bytes([value]) + data[at + 1 :]), (at, value)
    for at in range(HEAD):
        with pytest.raises(ArtifactError):
            load_packed(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], config)


@pytest.mark.slow
def test_every_flip_and_cut_of_a_file_of_the_smoke_size_is_refused() -> None:
    config = load_config({"RECIPE": "smoke", "GPTQ_NUM_SEQS": "2", "GPTQ_SEQ_LEN": "32"}, "smoke")
    data = file_of(config, trained=True)
    assert len(data) > 100_000
    assert survivors(data) == []


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
    for trial in range(120):

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

        try:
            weights = load_packed(resealed(config, data, change), config).weights()
        except ArtifactError:
            outcomes["refused"] += 1
            continue
        assert {name: w.shape for name, w in weights.items()} == shapes
        assert all(bool(torch.isfinite(w).all()) for w in weights.values())
        outcomes["read"] += 1
    assert min(outcomes.values()) > 0


def test_a_promise_of_a_huge_body_is_refused_before_it_is_unpacked(small: tuple[bytes, Config]) -> None:
    _, config = small
    bomb = write_container(None, {"header.json": bytes(50_000_000)}, codec="lzma")
    assert len(bomb) < 20_000
    with pytest.raises(ArtifactError, match="at most"):
        load_packed(bomb, config)
