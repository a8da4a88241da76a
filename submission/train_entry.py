"""Phase 1, run by the referee: train and leave a checkpoint."""

import os

import torch

from harness.protocol.session import TrainSession

from .config import load_config
from .preflight import NotUsable, preflight
from .train.failure import end_run
from .train.group import join, leave
from .train.loop import train
from .train.shares import use_cores


def main() -> None:
    """Pick the device, join the other ranks, train."""
    session = TrainSession.connect()
    config, steps, ended = None, 0, ""
    try:
        config = load_config(os.environ, session.track)
        device = prepare_device(session)
        preflight(config, device, session.track, session.world_size)
        join(session.world_size, device)
        steps, ended = train(session, config, device)
    except Exception as error:  # whatever it is, this rank must say it before the others see it gone
        end_run(session, error, config)
    session.done(steps=steps, ended=ended)
    leave()


def prepare_device(session: TrainSession) -> torch.device:
    """This rank's device, with the process set up for it."""
    if session.gpus:
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found < session.world_size:
            raise NotUsable(
                f"track {session.track} runs on {session.gpus} GPU(s), and PyTorch finds {found or 'none'} here: "
                "`harness doctor` says what is missing; TRACK=smoke needs none."
            )
        device = torch.device("cuda", session.local_rank)
        torch.cuda.set_device(device)
        return device
    use_cores(session.cpu_cores // session.world_size)
    return torch.device("cpu")


if __name__ == "__main__":
    main()
