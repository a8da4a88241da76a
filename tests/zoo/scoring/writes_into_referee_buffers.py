"""Writes into inputs, targets and logits while the referee reads: its copies count, so this gains nothing."""

import torch
from zoo_models import Stateless, serving, weights

from harness.protocol.serve import EvalWorker

RULE = "C3-SCORE-BEFORE-UPDATE"
GAINS_NOTHING = True


class Scribbler(EvalWorker):
    """What it writes makes an answer worse whenever a part of it is read as an answer; zeros would be a better one."""

    def _score(self, count):
        super()._score(count)
        buffers = self._buffers
        buffers.inputs.fill_(0)
        buffers.targets.fill_(0)
        buffers.logits[:, 0] = 50


serve_cheat = serving(Scribbler)


def cheat(context):
    torch.manual_seed(0)
    table = weights(context.vocab_size, context.vocab_size)
    table[0, 0] = 50  # inputs overwritten with 0 give bad answers too
    return Stateless(lambda inputs: table[inputs])


honest = cheat
