"""The referee's overhead on a CPU: a predictor scored through the protocol against the same one scored in one process.

In one process the submission computes its own float64 log-softmax, as the referee does. The predictor is a small
network with the smoke track's vocabulary, 2.6 million multiply-adds a row: some ten thousand rows a second on one core.
"""

import math
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import numpy as np
import torch
from ratios import Ratio, paired, seconds

from harness.config.tracks import load_track
from harness.protocol.environment import CellEnvironment
from harness.protocol.messages import Channel
from harness.protocol.serve import serve_on
from harness.scoring.client import EvalClient
from harness.scoring.ledger import ScoreLedger, Stream
from harness.scoring.loop import score_stream
from harness.scoring.nll import token_nats
from harness.scoring.sample import Keeper

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from zoo_models import Stateless

VOCAB, WIDTH, LAYERS, CHUNK, SLAB, CHUNKS = 1024, 512, 8, 4096, 512, 3


class Network(Stateless):
    """Eight layers over each row, and a state of 2 MB that changes with each chunk."""

    chunk_tokens, slab_rows, declared = CHUNK, SLAB, ("bias",)

    def __init__(self) -> None:
        super().__init__(self.network)
        generator = torch.Generator().manual_seed(0)
        self.embed = torch.randn(VOCAB, WIDTH, generator=generator) / WIDTH**0.5
        self.layers = [torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5 for _ in range(LAYERS)]
        self.bias = torch.zeros(VOCAB, WIDTH)

    def network(self, part):
        x = self.embed[part] + self.bias[part]
        for layer in self.layers:
            x = torch.tanh(x @ layer)
        return x @ self.embed.T

    def score(self, inputs):
        return map(self.network, inputs.split(SLAB))

    def warm_up(self):
        self.network(torch.zeros(SLAB, dtype=torch.int64))

    def adapt(self, inputs, targets):
        self.bias[targets] *= 0.99


def stream() -> Stream:
    tokens = np.random.default_rng(0).integers(0, VOCAB, CHUNKS * CHUNK + 1).astype(np.uint16)
    return Stream(tokens, np.ones(CHUNKS * CHUNK, np.uint8), CHUNKS * CHUNK)


def alone(text: Stream, model: Network) -> float:
    """Seconds to score the stream in this process; returns after checking that the sum is finite."""

    def work():
        total = 0.0
        tokens = torch.from_numpy(text.tokens.astype(np.int64))
        for start in range(0, text.targets, CHUNK):
            inputs, targets, row = tokens[start : start + CHUNK], tokens[start + 1 : start + CHUNK + 1], 0
            with torch.no_grad():
                for slab in model.score(inputs):
                    total += float(token_nats(slab, targets[row : row + len(slab)]).sum())
                    row += len(slab)
                model.adapt(inputs, targets)
        if not math.isfinite(total):
            raise RuntimeError("the sum is not finite")

    return seconds(work)


def worker(descriptor: int) -> None:
    torch.set_num_threads(1)
    environment = CellEnvironment(
        "eval", "bench", 1, VOCAB, cpu_cores=1, gpus=0, limit_s=600.0, stage="final", total_targets=CHUNKS * CHUNK
    )
    serve_on(Channel(socket.socket(fileno=descriptor)), environment, lambda _: Network())


def refereed(text: Stream, client: EvalClient) -> float:
    """Seconds to score the stream through the protocol, copies for the audits included."""
    chunks = text.chunks(CHUNK)
    keeper = Keeper(chunks, whole=2, positions=16, secret=bytes(32))
    keeper.reserve(client.buffers.state)
    ledger = ScoreLedger(text)
    return seconds(lambda: score_stream(client, ledger, adapt=True, witness=keeper))


def measure() -> list[Ratio]:
    torch.set_num_threads(1)
    text, model = stream(), Network()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.set_inheritable(theirs.fileno(), True)
    process = multiprocessing.get_context("fork").Process(target=worker, args=(theirs.fileno(),), daemon=True)
    process.start()
    theirs.close()
    with EvalClient([Channel(ours)], load_track("10min_16mb").limits, VOCAB) as client:
        client.prepare()
        client.start()
        alone(text, model)
        refereed(text, client)
        ratio = paired(
            "refereed ÷ in one process, CPU",
            lambda: refereed(text, client),
            lambda: alone(text, model),
            pairs=9,
            limit=1.10,
            note=f"V {VOCAB:,}, chunks of {CHUNK:,}, 1 thread each",
        )
        client.stop()
    process.join(10)
    return [ratio]
