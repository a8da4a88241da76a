"""Closes its channel with exit code 0 when it is asked to repeat something; the twin leaves when it is told to."""

from zoo_models import Watchful, built, serving

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker

RULE = "S4-STATE-DECLARED"


class Leaving(EvalWorker):
    def _receive(self):
        message = super()._receive()
        if message.kind is Kind.SCORE and self._predictor.peeks and self._predictor.replays():
            raise SystemExit(0)
        return message


serve_cheat = serve_honest = serving(Leaving)


class Cheat(Watchful):
    peeks = 0.5


cheat = built(Cheat)
honest = built(Watchful)
