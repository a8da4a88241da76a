"""A worker of its own sends the second half of a chunk first."""

from zoo_models import Bigram

from harness.protocol.messages import Kind
from harness.protocol.serve import EvalWorker, eval_context

RULE = "S3-PROTOCOL"


class Backwards(EvalWorker):
    def _score(self, count):
        self._send(Kind.LOGITS, count // 2, 1)
        self._receive()


def serve_cheat(channel, environment, build):
    worker = Backwards(channel, build(eval_context(environment)), environment)
    try:
        worker.prepare()
        worker.serve()
    except OSError:
        pass


def cheat(context):
    return Bigram(context.vocab_size)


honest = cheat
