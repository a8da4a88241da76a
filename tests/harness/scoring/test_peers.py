"""All ranks are listened to: the end of one is noticed while others are silent, and blamed on the right one."""

import time

import pytest
from msgspec.structs import replace

from harness.config.tracks import load_track
from harness.protocol.messages import Channel, Kind, Message
from harness.sandbox import answers
from harness.sandbox.answers import OutOfTime, RankFailed, RankGone
from harness.scoring.client import EvalClient

LIMITS = replace(load_track("smoke").limits, message_s=100.0)


class Ranks:
    """Three ranks, played by a test; the referee waits for HELLO."""

    def __init__(self):
        pairs = [Channel.pair() for _ in range(3)]
        self.channels = [channel for channel, _ in pairs]
        self.ends = [end for _, end in pairs]
        self.client = EvalClient(self.channels, LIMITS, 8)

    def say(self, rank: int, kind: Kind, text: str = "") -> None:
        self.ends[rank].send(Message(kind, text=text).encode())

    def failure(self) -> RankFailed:
        with pytest.raises(RankFailed) as caught:
            self.client.prepare()
        return caught.value


@pytest.fixture
def ranks():
    made = Ranks()
    yield made
    for one in (*made.channels, *made.ends):
        one.close()


@pytest.mark.rule("S3-PROTOCOL")
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_rank_that_ends_without_a_word_ends_the_evaluation(ranks, rank):
    ranks.ends[rank].close()
    error = ranks.failure()
    assert isinstance(error, RankGone)
    assert (error.rank, error.awaited) == (rank, "HELLO")


@pytest.mark.rule("S3-PROTOCOL")
def test_the_words_of_another_rank_are_heard(ranks):
    ranks.say(1, Kind.PROGRESS)
    ranks.say(1, Kind.FAILED, "no memory\x1b[31m")
    assert str(ranks.failure()).startswith("rank 1 says: no memory")


def test_rank_0_that_lost_another_is_not_believed(ranks):
    ranks.say(0, Kind.FAILED, "connection closed by peer")
    ranks.say(2, Kind.FAILED, "connection closed by peer")
    ranks.ends[1].close()
    assert ranks.failure().rank == 1


def test_rank_0_is_believed_when_the_others_only_lost_it(ranks):
    ranks.say(0, Kind.FAILED, "no such file")
    ranks.say(1, Kind.FAILED, "connection closed by peer")
    assert str(ranks.failure()) == "rank 0 says: no such file"


@pytest.mark.rule("S3-PROTOCOL")
def test_other_ranks_have_no_say(ranks):
    ranks.say(2, Kind.HELLO)
    assert str(ranks.failure()) == "rank 2 sent HELLO, and has no say"


def test_bytes_that_are_no_message_end_it_too(ranks):
    ranks.ends[2].send(b"hello")
    assert "rank 2 sent something that is not a message" in str(ranks.failure())


@pytest.mark.parametrize(
    ("started", "done", "late"),
    [
        ((0, 1), (), "^; rank 2 never connected: it did not start, or is slow before it connects$"),
        ((1,), (), "^; ranks 0, 2 never connected"),
        ((2,), (0, 1), "^; rank 2 had not answered$"),
        ((), (), "^$"),
        ((0, 1, 2), (), "^$"),
    ],
)
def test_whom_all_waited_for_in_vain_is_known_at_the_deadline(ranks, started, done, late):
    for kind, saying in ((Kind.PROGRESS, started), (Kind.DONE, done)):
        for rank in saying:
            ranks.say(rank, kind)
    listening = answers.Ranks(ranks.channels)
    listening.deadline_ns = time.monotonic_ns()
    with pytest.raises(OutOfTime, match=late):
        listening.collect(Kind.DONE)


def test_where_all_ranks_answer_the_one_that_began_it_is_blamed(ranks):
    ranks.say(0, Kind.DONE)
    ranks.say(1, Kind.FAILED, "connection closed by peer")
    ranks.ends[2].close()
    with pytest.raises(RankGone) as caught:
        answers.Ranks(ranks.channels).collect(Kind.DONE)
    assert caught.value.rank == 2


def test_a_rank_that_is_done_may_leave(ranks):
    for rank, end in enumerate(ranks.ends):
        ranks.say(rank, Kind.DONE, str(rank))
        end.close()
    said = answers.Ranks(ranks.channels).collect(Kind.DONE)
    assert {rank: message.text for rank, message in said.items()} == {0: "0", 1: "1", 2: "2"}


@pytest.mark.rule("S3-PROTOCOL")
def test_a_rank_that_reads_no_more_is_asked_for_its_reason(ranks):
    ranks.say(1, Kind.FAILED, "no space left")
    ranks.ends[1].close()
    with pytest.raises(RankFailed, match="rank 1 says: no space left"):
        answers.Ranks(ranks.channels).send(Message(Kind.START), rank=1)
