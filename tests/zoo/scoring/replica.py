"""Peeks, and answers what cannot be compared when it is asked to repeat something; the twin sees that it is asked."""

from zoo_models import Watchful, built, serving

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker

RULE = "S4-STATE-DECLARED"


class Cheat(Watchful):
    peeks = 0.5


class Answering(Cheat):
    """Its logits when it repeats something are ``answer``, in the first ``columns``."""

    def bigram(self, inputs):
        logits = super().bigram(inputs)
        if self.replays():
            logits[:, : self.columns] = self.answer
        return logits


class Nan(Answering):
    """Answers NaN, so that no difference can be computed."""

    answer, columns = float("nan"), None


class MinusInfinity(Answering):
    """Gives every token probability 0: minus infinity less itself is no number."""

    answer, columns = float("-inf"), None


class Huge(Answering):
    """Adds 1e30 to one logit: the others' differences are lost beside it."""

    answer, columns = 1e30, 1


class Crashing(Cheat):
    """Ends with an error as soon as a state is loaded that it has not made, hoping for other draws."""

    def load_state(self):
        if self.replays():
            raise RuntimeError("The size of tensor a (1) must match the size of tensor b (2)")


class Leaving(EvalWorker):
    """Closes its channel with exit code 0."""

    def _receive(self):
        message = super()._receive()
        if message.kind is Kind.SCORE and self._predictor.replays():
            raise SystemExit(0)
        return message


cheat_answers_nan, cheat_answers_minus_infinity = built(Nan), built(MinusInfinity)
cheat_answers_huge_numbers, cheat_crashes = built(Huge), built(Crashing)
cheat_leaves_quietly, serve_cheat_leaves_quietly = built(Cheat, doc=Leaving.__doc__), serving(Leaving)
honest = built(Watchful)
