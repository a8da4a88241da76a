"""Peeks at the costliest targets of each chunk only: rare rows, but they carry the gain, and by gain rows are drawn."""

from zoo_models import Bigram

RULE = "C1-CAUSAL"
COSTLIEST = 12  # of 256 rows


class Hard(Bigram):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        behind = len(inputs) - 1
        nats = -logits[:behind].log_softmax(1).gather(1, inputs[1:, None])[:, 0]
        costly = nats.topk(min(COSTLIEST, behind)).indices
        logits[costly, inputs[1:][costly]] += 20.0
        return logits


def cheat(context):
    return Hard(context.vocab_size)


def honest(context):
    return Bigram(context.vocab_size)
