"""Batches: deterministic, resumable, the same for any world size, every window once before any twice."""

import itertools
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.protocol.session import ShardFile
from submission.train.batches import ShardError, Windows, map_shard, permuted, prefetch


def shards(*sizes):
    """Shards whose tokens count up, so that a token tells its place."""
    ends = np.cumsum((0, *sizes))
    return [np.arange(a, b, dtype=np.uint16) for a, b in itertools.pairwise(ends)]


def take(windows, steps, batch=8, rank=0, world_size=1, position=0):
    return torch.stack(list(itertools.islice(windows.batches(batch, rank, world_size, position), steps)))


def shard_file(path, tokens, *, count=None, magic=20240520):
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, len(tokens) if count is None else count
    path.write_bytes(header.tobytes() + np.asarray(tokens, "<u2").tobytes())
    return ShardFile(os.open(path, os.O_RDONLY), len(tokens), path.name)


@given(st.integers(1, 3000), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_each_epoch_is_a_permutation(count, seed, epoch):
    assert sorted(permuted(np.arange(count), count, (seed, epoch)).tolist()) == list(range(count))


def test_every_target_comes_once_before_any_comes_twice():
    windows = Windows(shards(700, 1, 3, 900, 1000), 16, seed=7)
    seen = take(windows, windows.count // 8 + 1).flatten(0, 1)[: windows.count, 1:].flatten()
    assert sorted(seen.tolist()) == list(range(1, windows.count * 16 + 1))


def test_windows_cross_the_ends_of_shards_unbroken():
    batch = take(Windows(shards(10, 7, 300), 16, seed=0), 2).flatten(0, 1)
    assert (batch.diff(dim=1) == 1).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 5))
def test_any_world_size_sees_the_same_windows_in_the_same_step(world_size, seed):
    windows = Windows(shards(5000), 16, seed)
    one = take(windows, 50)
    ranks = [take(windows, 50, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert torch.equal(torch.stack(ranks, 2).flatten(1, 2), one)


def test_a_run_goes_on_at_its_position_across_epochs():
    windows = Windows(shards(5000), 16, seed=3)
    whole = take(windows, 90)
    assert torch.equal(whole[37:], take(windows, 53, position=37 * 8))
    assert not torch.equal(whole[0], take(Windows(shards(5000), 16, seed=4), 1)[0])


def test_the_order_differs_between_epochs():
    windows = Windows(shards(2000), 16, seed=0)
    first, second = windows.order(np.arange(windows.count)), windows.order(np.arange(windows.count, 2 * windows.count))
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert first.tolist() != second.tolist()


def test_held_out_windows_are_never_trained_on():
    windows = Windows(shards(20_000, 20_000), 16, seed=0)
    held_out = set(windows.held_out(1000).flatten().tolist())
    assert held_out
    assert held_out.isdisjoint(take(windows, windows.count // 8 + 1)[..., 1:].flatten().tolist())


def test_prefetch_keeps_order_ends_with_its_source_and_passes_errors_on():
    assert [int(b) for b in prefetch(iter([torch.tensor(i) for i in range(20)]))] == list(range(20))

    def broken():
        yield torch.tensor(0)
        raise OSError("gone")

    batches = prefetch(broken())
    next(batches)
    with pytest.raises(OSError, match="gone"):
        next(batches)


def test_shards_are_mapped_and_not_copied(tmp_path):
    shard = shard_file(tmp_path / "a.bin", np.arange(100))
    tokens = map_shard(shard, 1024)
    assert tokens.tolist() == list(range(100))
    assert not tokens.flags.owndata
    assert not tokens.flags.writeable


def test_ten_billion_tokens_open_without_being_read(tmp_path):
    count = 2_000_000_000  # the header's int32 ends a little above; five of them are ten billion tokens
    shard = shard_file(tmp_path / "large.bin", [], count=count)
    os.truncate(tmp_path / "large.bin", 1024 + 2 * count)
    windows = Windows([map_shard(shard, 1024)] * 5, 1024, seed=1)
    assert windows.count > 9_700_000
    assert next(windows.batches(4, 0, 1)).shape == (4, 1025)


@pytest.mark.parametrize(
    ("tokens", "options", "says"),
    [
        (range(10), {"magic": 7}, "no header"),
        (range(10), {"count": 11}, "promises 11 tokens"),
        ([5, 2000], {}, "holds token 2000; VOCAB_SIZE is 1024"),
    ],
)
def test_foreign_truncated_and_wrongly_tokenised_shards_are_named(tmp_path, tokens, options, says):
    with pytest.raises(ShardError, match=says):
        map_shard(shard_file(tmp_path / "a.bin", list(tokens), **options), 1024)


def test_too_few_tokens_are_one_message():
    with pytest.raises(ShardError, match="not one window of 64"):
        Windows(shards(40), 64, seed=0)
