"""Dies by KILL while a chunk is scored."""

import os
import signal

RULE, PLACE, UNTIL = "S3-PROTOCOL", "score", "eval"


def cheat(inputs):
    os.kill(os.getpid(), signal.SIGKILL)


def honest(inputs):
    os.kill(os.getpid(), signal.SIGCONT)
