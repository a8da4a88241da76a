"""Messages and channel: whatever a worker sends is a message or a MessageError, never anything else."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.protocol.messages import (
    MESSAGE_BYTES,
    TEXT_BYTES,
    VERSION,
    Channel,
    ChannelClosed,
    ChannelTimeout,
    Kind,
    Message,
    MessageError,
    decode,
)

HEAD = b"GOLF" + VERSION.to_bytes(2, "little")
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False)
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=100)


@given(st.sampled_from(list(Kind)), INT64, INT64, INT64, INT64, FLOAT, FLOAT, TEXT)
def test_what_is_encoded_comes_back(kind, a, b, c, d, x, y, text):
    message = Message(kind, a, b, c, d, x, y, text)
    data = message.encode()
    assert len(data) == MESSAGE_BYTES
    assert decode(data) == message


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=200, max_size=2000))
def test_long_text_is_cut_at_a_character(text):
    found = decode(Message(Kind.FAILED, text=text).encode()).text
    assert text.startswith(found)
    assert min(len(text.encode()), TEXT_BYTES - 3) <= len(found.encode()) <= TEXT_BYTES


@given(st.sampled_from([b"", HEAD[:4], HEAD]), st.binary(max_size=2 * MESSAGE_BYTES), st.booleans())
def test_any_bytes_are_a_message_or_a_message_error(head, rest, whole):
    data = (head + rest).ljust(MESSAGE_BYTES, b"\1")[:MESSAGE_BYTES] if whole else head + rest
    try:
        message = decode(data)
    except MessageError:
        return
    assert isinstance(message.kind, Kind)
    assert data.startswith(HEAD)


@pytest.mark.parametrize("size", [0, 1, MESSAGE_BYTES - 1, MESSAGE_BYTES + 1, 60_000])
@pytest.mark.rule("S3-PROTOCOL")
def test_a_message_of_another_size_is_refused_whole(size):
    channel, other = Channel.pair()
    wanted = ChannelClosed if size == 0 else MessageError
    other.send(bytes(size)) if size else other.close()
    with pytest.raises(wanted):
        channel.receive(1.0)
    if size:
        other.send(Message(Kind.DONE).encode())
        assert channel.receive(1.0).kind is Kind.DONE


@pytest.mark.parametrize("data", [b"short", Message(Kind.DONE).encode()], ids=["broken", "whole"])
def test_descriptors_of_a_worker_are_closed_and_their_message_is_refused(data: bytes):
    channel, other = Channel.pair()
    before = len(os.listdir("/proc/self/fd"))
    null = os.open(os.devnull, os.O_RDONLY)
    socket.send_fds(other, [data], [null] * 50)
    with pytest.raises(MessageError):
        channel.receive(1.0)
    os.close(null)
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer: garbage of other tests was collected


def fill(channel: Channel) -> None:
    for _ in range(100_000):
        channel.send(Message(Kind.STOP), timeout_s=0.01)


def test_silence_ends_in_a_timeout_and_a_full_peer_too():
    channel, _other = Channel.pair()
    with pytest.raises(ChannelTimeout):
        channel.receive(0.01)
    with pytest.raises(ChannelTimeout):
        fill(channel)
