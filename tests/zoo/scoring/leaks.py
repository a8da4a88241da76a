"""Raises targets before they are committed, where the audits may not look; the twin counts its chunks and no more."""

import torch
from zoo_models import Counting, built, leaking, raise_targets

RULE = "C1-CAUSAL"
TARGETS = 20 * 256 + 100


@leaking
def cheat_in_one_chunk_of_twenty(model, logits, inputs, chunk):
    """Knows all targets of one chunk of twenty, without adaptation too: the packed model looks as good there."""
    if chunk == 9:
        raise_targets(logits, inputs, 20.0)


@leaking
def cheat_in_the_first_chunk(model, logits, inputs, chunk):
    """Knows all targets before anything is learnt, where every score is poor."""
    if chunk == 0:
        raise_targets(logits, inputs, 20.0)


@leaking
def cheat_in_the_last_chunk(model, logits, inputs, chunk):
    """Knows the targets of the last chunk alone, which is shorter than the others and never adapted to."""
    if len(inputs) < model.chunk_tokens:
        raise_targets(logits, inputs, 20.0)


@leaking
def cheat_in_two_chunks_far_apart(model, logits, inputs, chunk):
    """Knows all targets of the second chunk and of the last but one."""
    if chunk in (1, 18):
        raise_targets(logits, inputs, 20.0)


@leaking
def cheat_late(model, logits, inputs, chunk):
    """Begins to peek in the last part of the stream, when the frozen model is no measure any more."""
    if chunk >= 12:
        raise_targets(logits, inputs, 0.3)


@leaking
def cheat_more_from_chunk_to_chunk(model, logits, inputs, chunk):
    """Starts honest and peeks a little more in each chunk."""
    raise_targets(logits, inputs, 0.08 * chunk)


@leaking
def cheat_a_little_in_many_rows(model, logits, inputs, chunk):
    """A tenth of a nat at every fifth row: none stands out among rows that adaptation made cheaper too."""
    raise_targets(logits, inputs, 0.1, torch.arange(0, len(inputs) - 1, 5))


@leaking
def cheat_at_one_token(model, logits, inputs, chunk):
    """Knows where one token of the vocabulary comes next, and nothing else."""
    raise_targets(logits, inputs, 20.0, torch.nonzero(inputs[1:] == 3).flatten())


@leaking
def cheat_at_the_ends_of_slabs(model, logits, inputs, chunk):
    """Peeks in the last rows of each slab alone, where the next inputs lie near."""
    rows = torch.arange(len(inputs) - 1)
    raise_targets(logits, inputs, 4.0, rows[rows % 64 >= 56])


@leaking
def cheat_where_it_is_unsure(model, logits, inputs, chunk):
    """Peeks where its own guess is flat."""
    sure = logits.softmax(1).amax(1)[:-1]
    raise_targets(logits, inputs, 6.0, torch.nonzero(sure < sure.quantile(0.05)).flatten())


@leaking
def cheat_where_it_hurts(model, logits, inputs, chunk):
    """Peeks at the 12 costliest targets of each chunk: rare rows, but they carry the gain."""
    nats = -logits[:-1].log_softmax(1).gather(1, inputs[1:, None])[:, 0]
    raise_targets(logits, inputs, 20.0, nats.topk(12).indices)


@leaking
def cheat_by_a_worse_rest(model, logits, inputs, chunk):
    """Lowers what does not come next, in place of raising what does."""
    if chunk >= 10:
        logits[:-1] -= 3.0
        raise_targets(logits, inputs, 3.0)


@leaking
def cheat_down_to_the_frequency(model, logits, inputs, chunk):
    """Peeks where a target would cost more than its frequency, and raises it to just that: no gain, it seems."""
    seen = model.counts.sum(0) + 1.0
    plain = (seen / seen.sum()).log()
    rows, targets = torch.arange(len(inputs) - 1), inputs[1:]
    worse = rows[logits[rows, targets] < plain[targets]]
    logits[worse, inputs[worse + 1]] = plain[inputs[worse + 1]]


@leaking
def cheat_one_token_late(model, logits, inputs, chunk):
    """Peeks two tokens ahead: it knows what follows the target."""
    if chunk >= 4:
        ahead = model.counts[:, inputs[2:]].T + 0.1
        logits[: len(inputs) - 2] += 1.5 * ahead.div(ahead.sum(1, keepdim=True)).log()


honest = built(Counting)
