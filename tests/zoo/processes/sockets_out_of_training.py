"""Looks for services of the machine through local sockets; the twin's DataLoader has workers that use such sockets."""

import socket

import torch
from tries import attempt

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True
SERVICES = ("/run/systemd/notify", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "\0/tmp/.X11-unix/X0")


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, at):
        return torch.full((1000,), at)


def cheat(session, shards):
    for service in SERVICES:
        attempt(service, lambda service=service: socket.socket(socket.AF_UNIX).connect(service))
    attempt("the network", lambda: socket.create_connection(("1.1.1.1", 53), 1))


def honest(session, shards):
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=8, num_workers=2)
    if sum(int(batch.sum()) for batch in loader) != 1000 * sum(range(64)):
        raise RuntimeError("batches are missing")
