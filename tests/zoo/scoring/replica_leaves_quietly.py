"""Closes its channel with exit code 0 when it is asked to repeat something; the twin leaves when it is told to."""

from zoo_models import Watchful

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker, eval_context

RULE = "S4-STATE-DECLARED"


class Leaving(EvalWorker):
    def _receive(self):
        message = super()._receive()
        if message.kind is Kind.SCORE and self._predictor.peeks and self._predictor.replays():
            raise SystemExit(0)
        return message


def serve(channel, environment, build):
    worker = Leaving(channel, build(eval_context(environment)), environment)
    worker.prepare()
    worker.serve()


serve_cheat = serve_honest = serve


class Cheat(Watchful):
    peeks = 0.5


def cheat(context):
    return Cheat(context.vocab_size)


def honest(context):
    return Watchful(context.vocab_size)
