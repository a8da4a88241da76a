"""Phase 1, run by the referee: train and leave a checkpoint."""

import os

import torch
import torch.distributed as dist

from harness.protocol.session import TrainSession

from .config import ConfigError, load_config
from .train.batches import ShardError
from .train.loop import Diverged, train


def main() -> None:
    """Pick the device, join the other ranks, train."""
    session = TrainSession.connect()
    try:
        config = load_config(os.environ, session.track)
        device = torch.device("cuda", session.local_rank) if session.gpus else torch.device("cpu")
        if session.gpus:
            torch.cuda.set_device(device)
            if not torch.cuda.is_bf16_supported():
                session.fail(f"{torch.cuda.get_device_name(device)} has no bfloat16; this submission needs it.")
        else:
            torch.set_num_threads(max(1, session.cpu_cores // session.world_size))
            torch.use_deterministic_algorithms(True)
        if session.world_size > 1:
            dist.init_process_group("nccl" if session.gpus else "gloo")
        train(session, config, device)
    except (ConfigError, Diverged, ShardError) as error:
        session.fail(str(error))
    except torch.OutOfMemoryError:
        session.fail(f"out of GPU memory at TRAIN_MICRO_BATCH={config.train_micro_batch} windows; lower it.")
    session.done()


if __name__ == "__main__":
    main()
