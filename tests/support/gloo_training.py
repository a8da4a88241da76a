"""One rank of a training run over gloo, started by torchrun: ``gloo_training.py FOLDER`` writes what it saw."""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from small_models import small_config

from submission.train.group import agree, join, leave, own_rank, world_size
from submission.train.trainer import Trainer

torch.set_num_threads(1)
device = torch.device("cpu")
join(int(os.environ["WORLD_SIZE"]), device)
rank, world = own_rank(), world_size()
config = small_config(train_batch_tokens=6 * 32, train_seq_len=32, train_micro_batch=2)
trainer = Trainer(config, device, 1, world)
generator = torch.Generator().manual_seed(5)
losses = []
for step in range(6):
    windows = torch.randint(64, (6, 33), generator=generator)
    losses.append(float(trainer.step(windows[rank::world], 1.0, 0.9, step >= 4)))
digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters()))
seen = {"losses": losses, "agreed": agree(0.1 + rank), "weights": digest.hexdigest()}
(Path(sys.argv[1]) / f"{rank}.json").write_text(json.dumps(seen))
leave()
