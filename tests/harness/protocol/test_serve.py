"""The worker's side of a chunk: logits copied into the referee's memory, or written there by the predictor itself."""

import pytest
import torch
from lab import markov_stream, referee
from zoo_models import Bigram

STREAM = markov_stream(32, targets=1100)


class Writer(Bigram):
    """Writes each slab into the referee's memory, and over it whatever it computes on the way to the next."""

    def bind_logits(self, buffer):
        self.buffer = buffer

    def score(self, inputs):
        for slab in super().score(inputs):
            self.buffer.fill_(float("nan"))
            yield self.buffer[: len(slab)].copy_(slab)


class Mixed(Writer):
    """Only every second slab is written in place."""

    def score(self, inputs):
        for number, slab in enumerate(Bigram.score(self, inputs)):
            yield self.buffer[: len(slab)].copy_(slab) if number % 2 else slab


def outcome(kind):
    return referee(lambda context: kind(context.vocab_size), STREAM, 32, floor_bpb=0.3)


@pytest.mark.parametrize("kind", [Writer, Mixed])
def test_logits_written_in_place_score_as_copied_ones_do(kind):
    copied, written = outcome(Bigram), outcome(kind)
    assert not written.fired, written.reason
    assert written.nats == copied.nats


def test_a_slab_is_read_before_the_next_one_may_be_written():
    seen = []

    class Slow(Writer):
        def score(self, inputs):
            for slab in Bigram.score(self, inputs):
                seen.append(torch.equal(self.buffer[: len(slab)], slab))
                yield self.buffer[: len(slab)].copy_(slab)

    assert not outcome(Slow).fired
    assert not all(seen)
