"""Says ADAPTED before it was asked to adapt, hoping for targets of a chunk that is not committed."""

from zoo_models import Bigram

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker, eval_context

RULE = "S3-PROTOCOL"


class Hasty(EvalWorker):
    def _score(self, count):
        self._send(Kind.ADAPTED)
        super()._score(count)


def serve_cheat(channel, environment, build):
    worker = Hasty(channel, build(eval_context(environment)), environment)
    try:
        worker.prepare()
        worker.serve()
    except OSError:
        pass


def cheat(context):
    return Bigram(context.vocab_size)


honest = cheat
