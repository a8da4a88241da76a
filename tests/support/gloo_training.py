"""One rank of a training run over gloo, started by tests/submission/train/test_ranks.py; prints its losses as JSON."""

import json
import os

import torch
import torch.distributed as dist
from small_models import small_config

from submission.train.trainer import Trainer

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group("gloo")
config = small_config(train_batch_tokens=6 * 32, train_seq_len=32, train_micro_batch=2)
trainer = Trainer(config, torch.device("cpu"), 1, world)
generator = torch.Generator().manual_seed(5)
losses = []
for step in range(6):
    windows = torch.randint(64, (6, 33), generator=generator)
    losses.append(float(trainer.step(windows[rank::world], 1.0, 0.9, step >= 4)))
print(json.dumps(losses))
if world > 1:
    dist.destroy_process_group()
