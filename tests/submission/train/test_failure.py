"""What ends a training run is one sentence that names the setting to change."""

import dataclasses

import pytest
import torch
from small_models import small_config

from harness.protocol.ranks import LostRank
from submission.train import failure
from submission.train.failure import end_run, explain

CONFIG = small_config(train_micro_batch=8, train_seq_len=32)


class Told(Exception):
    pass


class Session:
    def fail(self, reason: str) -> None:
        raise Told(reason)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_out_of_memory_says_which_setting_to_lower(error):
    text = explain(error, CONFIG)
    assert "memory at TRAIN_MICRO_BATCH=8 windows of 32 tokens; lower it (TRAIN_MICRO_BATCH=4)" in text
    single = explain(error, dataclasses.replace(CONFIG, train_micro_batch=1))
    assert "lower TRAIN_SEQ_LEN or MODEL_DIM" in single


def test_a_real_failed_allocation_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert "TRAIN_MICRO_BATCH" in explain(caught.value, CONFIG)


def test_another_runtime_error_is_shown_as_it_is():
    assert explain(RuntimeError("shapes differ"), CONFIG) == "RuntimeError: shapes differ"


def test_a_rank_that_only_lost_another_waits_before_it_speaks(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(failure.time, "sleep", waits.append)
    with pytest.raises(Told, match="lost touch with another rank"):
        end_run(Session(), LostRank("Connection closed by peer"), CONFIG)
    assert waits == [failure.LOST_RANK_WAIT_S]
    with pytest.raises(Told, match="KeyError"):
        end_run(Session(), KeyError("tokens"), CONFIG)
    assert len(waits) == 1
