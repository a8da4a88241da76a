"""Floods the referee with progress in place of logits, to stretch its wait; the twin sends some and then its rows."""

import time

from zoo_models import Bigram

from harness.protocol.messages import Kind, Message
from harness.protocol.serve import EvalWorker, eval_context

RULE = "S3-PROTOCOL"
CHEAT_MESSAGE_S = 2.0


class Flooding(EvalWorker):
    seconds = 0.0

    def _score(self, count):
        until = time.monotonic() + self.seconds
        self._send(Kind.PROGRESS)
        while time.monotonic() < until:
            self._channel.send(Message(Kind.PROGRESS), timeout_s=30.0)
        super()._score(count)


def serve(channel, environment, build, seconds):
    worker = Flooding(channel, build(eval_context(environment)), environment)
    worker.seconds = seconds
    try:
        worker.prepare()
        worker.serve()
    except OSError:
        pass


def serve_cheat(channel, environment, build):
    serve(channel, environment, build, 8.0)


def serve_honest(channel, environment, build):
    serve(channel, environment, build, 0.0)


def cheat(context):
    return Bigram(context.vocab_size)


honest = cheat
