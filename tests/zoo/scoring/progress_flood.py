"""Floods the referee with progress in place of logits, to stretch its wait; the twin sends some and then its rows."""

import time

from zoo_models import Bigram, built, serving

from harness.protocol.messages import Kind, Message
from harness.protocol.serve import EvalWorker

RULE = "S3-PROTOCOL"
CHEAT_MESSAGE_S = 2.0


class Flooding(EvalWorker):
    seconds = 8.0

    def _score(self, count):
        until = time.monotonic() + self.seconds
        self._send(Kind.PROGRESS)
        while time.monotonic() < until:
            self._channel.send(Message(Kind.PROGRESS), timeout_s=30.0)
        super()._score(count)


class Progressing(Flooding):
    seconds = 0.0


serve_cheat, serve_honest = serving(Flooding), serving(Progressing)
cheat = honest = built(Bigram)
