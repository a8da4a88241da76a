"""What ends a training run, as one sentence with a remedy, sent by the rank that it happened to before any other."""

from __future__ import annotations

import sys
import time
import traceback
from typing import NoReturn

import torch

from harness.protocol.ranks import LOST_RANK_WAIT_S, LostRank
from harness.protocol.session import TrainSession

from ..config import Config, ConfigError
from ..preflight import NotUsable
from .batches import ShardError
from .loop import Diverged

EXPECTED = (ConfigError, NotUsable, ShardError, Diverged, LostRank)
HOST_MEMORY_SIGNS = ("not enough memory", "can't allocate memory", "bad_alloc")


def explain(error: Exception, config: Config | None) -> str:
    """One sentence about ``error``, with the setting to change where there is one. config: None if it was refused."""
    if isinstance(error, EXPECTED):
        return str(error)
    if config is not None and is_out_of_memory(error):
        return out_of_memory(config, gpu=isinstance(error, torch.OutOfMemoryError))
    return f"{type(error).__name__}: {error}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory of the GPU or of the host ran out."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in words for sign in HOST_MEMORY_SIGNS)
    )


def out_of_memory(config: Config, *, gpu: bool) -> str:
    """What to lower: the micro-batch while it has more than one window, then the window."""
    where = "GPU memory" if gpu else "memory"
    if config.train_micro_batch > 1:
        half = config.train_micro_batch // 2
        return (
            f"out of {where} at TRAIN_MICRO_BATCH={config.train_micro_batch} windows of {config.train_seq_len:,} "
            f"tokens; lower it (TRAIN_MICRO_BATCH={half}), the result stays the same up to rounding."
        )
    return (
        f"out of {where} at a micro-batch of one window of {config.train_seq_len:,} tokens; lower TRAIN_SEQ_LEN or "
        "MODEL_DIM, or use a larger machine."
    )


def end_run(session: TrainSession, error: Exception, config: Config | None) -> NoReturn:
    """Tell the referee and leave with code 1, after the rank that was lost, if any."""
    if isinstance(error, LostRank):
        time.sleep(LOST_RANK_WAIT_S)
    elif not isinstance(error, EXPECTED):
        traceback.print_exception(error)
        sys.stderr.flush()
    session.fail(explain(error, config))
