"""The referee's side of a worker that says anything at all: a RankFailed or the deadline, nothing else."""

import os
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.config.tracks import load_track
from harness.protocol.messages import Channel, Kind, Message
from harness.sandbox.answers import OutOfTime, RankFailed
from harness.scoring.client import EvalClient

INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-2, 70)
LIMITS = replace(load_track("smoke").limits, chunk_tokens=64, state_bytes=1 << 16, message_s=0.05)
HELLO = Message(Kind.HELLO, 0, 16, 8, 0, x=16.0)


def hello_of(a, b, c, d, x):
    return Message(Kind.HELLO, a, b, c, d, x=x)


MESSAGES = st.builds(
    Message, st.sampled_from(list(Kind)), SMALL | INT64, SMALL | INT64, INT64, INT64, st.floats(), st.floats()
)


@given(
    st.builds(
        hello_of, SMALL | INT64, SMALL | INT64, st.just(8) | INT64, st.integers(-1, 3), st.floats() | st.just(4.0)
    )
)
@settings(max_examples=200, deadline=None)
def test_any_hello_is_within_the_limits_or_a_failure(hello):
    channel, end = Channel.pair()
    other = Channel(end)
    other.send(hello)
    other.send(Message(Kind.READY))
    with EvalClient([channel], LIMITS, 8) as client:
        try:
            client.prepare()
            found = client.hello
        except RankFailed:
            return
        finally:
            channel.close()
            other.close()
    assert 0 <= found.state_bytes <= LIMITS.state_bytes
    assert 1 <= found.slab_rows <= found.chunk_tokens <= LIMITS.chunk_tokens


@given(st.lists(MESSAGES.map(Message.encode) | st.binary(min_size=1, max_size=600), max_size=6))
@settings(max_examples=60, deadline=None)
@pytest.mark.rule("S3-PROTOCOL")
def test_any_answers_to_a_chunk_end_in_rows_or_a_failure(answers):
    channel, end = Channel.pair()
    end.send(HELLO.encode())
    end.send(Message(Kind.READY).encode())
    with EvalClient([channel], LIMITS, 8) as client:
        client.prepare()
        for answer in answers:
            end.send(answer)
        end.close()
        rows = 0
        try:
            for first, slab in client.score(0, torch.zeros(16, dtype=torch.int64)):
                assert first == rows
                rows += len(slab)
        except RankFailed:
            return
        finally:
            channel.close()
    assert rows == 16


def test_the_deadline_ends_a_wait_for_a_silent_worker_and_a_flood():
    channel, end = Channel.pair()
    with EvalClient([channel], replace(LIMITS, message_s=60.0), 8) as client:
        client.ranks.deadline_ns = time.monotonic_ns() + 50_000_000
        with pytest.raises(OutOfTime):
            client.prepare()
        for _ in range(10):
            end.send(Message(Kind.PROGRESS).encode())
        with pytest.raises(OutOfTime):
            client.prepare()


def test_words_of_a_worker_are_printable():
    channel, end = Channel.pair()
    end.send(Message(Kind.FAILED, text="\x1b[31mred\nline").encode())
    with EvalClient([channel], LIMITS, 8) as client, pytest.raises(RankFailed) as caught:
        client.prepare()
    assert str(caught.value).isprintable()


def test_what_the_referee_prepares_is_done_before_the_worker_is_ready():
    """After READY the worker would have that time for itself, on no clock and within no limit."""
    channel, end = Channel.pair()
    other = Channel(end)
    other.send(HELLO)
    with EvalClient([channel], LIMITS, 8) as client:
        client.ranks.deadline_ns = time.monotonic_ns() + 60 * 10**9
        client.prepare(meanwhile=lambda: other.send(Message(Kind.READY, client.buffers.state.numel())))


@pytest.mark.parametrize(("needed", "said"), [(None, Kind.NEXT), (5, Kind.NEXT), (4, Kind.ENOUGH), (1, Kind.ENOUGH)])
def test_the_worker_is_told_to_go_on_before_the_referee_works_on_a_slab(needed, said):
    """A copy is all that the score needs; rows behind the needed ones are never asked for."""
    channel, end = Channel.pair()
    other = Channel(end)
    for message in (HELLO, Message(Kind.READY), Message(Kind.LOGITS, 0, 4)):
        other.send(message)
    with EvalClient([channel], LIMITS, 8) as client:
        client.prepare()
        _, descriptors = other.receive_with_descriptors(1.0)
        slabs = client.score(0, torch.zeros(16, dtype=torch.int64), needed)
        first, slab = next(slabs)
        assert (first, slab.shape) == (0, (4, 8))
        assert [other.receive(1.0).kind for _ in range(2)] == [Kind.SCORE, said]
        if said is Kind.ENOUGH:
            other.send(Message(Kind.SCORED))
            assert list(slabs) == []
    for descriptor in descriptors:
        os.close(descriptor)
