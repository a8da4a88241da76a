"""Closes its channel with exit code 0 when it is asked to repeat something; the twin leaves when it is told to."""

from zoo_models import Bigram, raise_targets

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker, eval_context

RULE = "S4-STATE-DECLARED"


class Leaving(EvalWorker):
    leaves = False

    def _receive(self):
        message = super()._receive()
        counts = self._predictor.counts
        if self.leaves and message.kind is Kind.LOAD_STATE and self._mapped().state.any() and not counts.adapted:
            raise SystemExit(0)
        return message


class Counts(Bigram):
    def bind_state(self, buffers):
        super().bind_state(buffers)
        self.counts.adapted = False

    def adapt(self, inputs, targets):
        self.counts.adapted = True
        super().adapt(inputs, targets)


def serve(channel, environment, build, leaves):
    worker = Leaving(channel, build(eval_context(environment)), environment)
    worker.leaves = leaves
    worker.prepare()
    worker.serve()


def serve_cheat(channel, environment, build):
    serve(channel, environment, build, True)


def serve_honest(channel, environment, build):
    serve(channel, environment, build, False)


class Cheat(Counts):
    def bigram(self, inputs):
        logits = super().bigram(inputs)
        raise_targets(logits, inputs, 0.5)
        return logits


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Counts(context.vocab_size)
