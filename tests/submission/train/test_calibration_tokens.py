"""CALIBRATION_SOURCE=train: the checkpoint keeps sequences of GPTQ_SEQ_LEN, or the run says at once that it can't."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_config

from harness.protocol.session import ShardFile
from submission.checkpoint import CheckpointError, load_calibration, save_checkpoint
from submission.model.hybrid import build_model
from submission.train.batches import ShardError
from submission.train.loop import train

CONFIG = small_config(
    calibration_source="train", iterations=1, warmdown_iters=1, train_seq_len=16, train_batch_tokens=64, gptq_num_seqs=5
)


@dataclass
class Session:
    """What training reads of the referee's session, with as many tokens in its one shard."""

    output_dir: Path
    tokens: int
    world_size: int = 1
    rank: int = 0
    seed: int = 3
    cpu_cores: int = 1
    limit_s: float = 1e6
    steps: list[int] = field(default_factory=list)

    def ready(self) -> list[ShardFile]:
        header = np.zeros(256, "<i4")
        header[:3] = 20240520, 1, self.tokens
        path = self.output_dir / "shard.bin"
        path.write_bytes(header.tobytes() + (np.arange(self.tokens) % 64).astype("<u2").tobytes())
        return [ShardFile(os.open(path, os.O_RDONLY), self.tokens, path.name)]

    def elapsed_s(self) -> float:
        return 0.0

    def remaining_s(self) -> float:
        return self.limit_s

    def progress(self, *, step: int, **_shown: object) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("length", [8, 24, 40])
def test_the_sequences_have_the_length_that_was_asked_for(tmp_path, length):
    config = small_config(**{**vars(CONFIG), "gptq_seq_len": length})
    train(Session(tmp_path, 20_000), config, torch.device("cpu"))
    tokens = load_calibration(tmp_path, 64)
    assert tokens.shape == (5, length)
    first = int(tokens[0, 0])
    assert tokens.flatten().tolist() == [(first + i) % 64 for i in range(5 * length)]  # in a row, none left out


def test_a_train_set_too_small_for_one_sequence_is_named_before_the_first_step(tmp_path):
    session = Session(tmp_path, 3000)  # 1 % of it are held out
    with pytest.raises(ShardError, match=r"30 tokens: not one calibration sequence of 31\. Lower GPTQ_SEQ_LEN, or set"):
        train(session, small_config(**{**vars(CONFIG), "gptq_seq_len": 31}), torch.device("cpu"))
    assert session.steps == []


def test_an_empty_table_is_told_from_one_of_other_tokens(tmp_path):
    save_checkpoint(tmp_path, build_model(CONFIG).state_dict(), CONFIG, torch.empty(0, 16))
    with pytest.raises(CheckpointError, match="without a token"):
        load_calibration(tmp_path, 64)


class Hurried(Session):
    """Its clock runs out after two steps."""

    def remaining_s(self) -> float:
        self.asked = getattr(self, "asked", 0) + 1
        return self.limit_s if self.asked <= 2 else 0.0


@pytest.mark.parametrize(("kind", "expected"), [(Session, (3, "complete")), (Hurried, (2, "clock"))])
def test_training_says_whether_the_clock_left_steps_undone(tmp_path, kind, expected):
    config = small_config(**{**vars(CONFIG), "iterations": 3, "gptq_seq_len": 8})
    assert train(kind(tmp_path, 20_000), config, torch.device("cpu")) == expected
    last = json.loads((tmp_path / "telemetry-0.jsonl").read_text().splitlines()[-1])
    assert last["ended"] == expected[1]
