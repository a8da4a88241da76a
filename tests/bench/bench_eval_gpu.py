"""Speed of evaluation on one GPU, and what the referee costs: the same predictor in one process and refereed.

    python tests/bench/bench_eval_gpu.py                      # pr1890, random weights and tokens, one JSON object
    python tests/bench/bench_eval_gpu.py --env EVAL_MODE=overlap --chunks 16
    python tests/bench/bench_eval_gpu.py --device cpu --recipe smoke --chunks 4    # tries the script itself

The first process times every plan alone: all epochs, fewer, frozen. Times for the whole set are extrapolated from the
measured tokens. The second scores refereed and in process by turns, a chunk about, on one device, so that ``overhead``
(refereed over in-process time of a pair, less one: median, least, most) does not depend on which of two runs came
first. The refereed side uses the real messages, buffers, loop, nats and kept states; it leaves out the sandbox, which
costs nothing per chunk.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch._dynamo.utils import counters

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.config.tracks import load_track  # noqa: E402
from harness.protocol.buffers import shared_device  # noqa: E402
from harness.protocol.environment import CellEnvironment  # noqa: E402
from harness.protocol.messages import Channel  # noqa: E402
from harness.protocol.predictor import EvalContext  # noqa: E402
from harness.protocol.serve import serve_on  # noqa: E402
from harness.scoring.client import EvalClient  # noqa: E402
from harness.scoring.ledger import ScoreLedger, Stream  # noqa: E402
from harness.scoring.loop import score_stream  # noqa: E402
from harness.scoring.nll import token_nats  # noqa: E402
from harness.scoring.sample import Keeper  # noqa: E402
from submission.config import Config, load_config  # noqa: E402
from submission.eval.predictor import LEVEL, HybridPredictor  # noqa: E402
from submission.model.hybrid import build_model  # noqa: E402

FULL_SET = 40_540_160
WARM_CHUNKS = 2


def main() -> None:
    options = parse()
    config = load_config(dict(pair.split("=", 1) for pair in options.env) | {"RECIPE": options.recipe}, "bench")
    roles = {"inprocess": in_process, "worker": worker, "refereed": refereed}
    if options.role:
        print(json.dumps(roles[options.role](options, config)))
        return
    alone, turns = child("inprocess", options), child("refereed", options)
    tokens = config.eval_seq_len * config.ttt_chunk_windows
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
                "torch": torch.__version__,
                "recipe": options.recipe,
                "changed": options.env,
                "tokens_a_chunk": tokens,
                "epochs": config.ttt_epochs,
                "tokens_per_s": round(tokens / alone["chunk_s"]) if "chunk_s" in alone else None,
                "full_set_tokens": FULL_SET,
                "measured_tokens": tokens * options.chunks,
                "in process": alone,
                "by turns": turns,
            },
            indent=1,
        )
    )


def child(role: str, options: argparse.Namespace) -> dict:
    """Run one role of this script; its last line of output is its result."""
    command = [sys.executable, __file__, "--role", role, *shared_arguments(options)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=options.timeout, check=False, text=True)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {options.timeout} s"}
    if done.returncode:
        return {"error": f"exit code {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_process(options: argparse.Namespace, config: Config) -> dict:
    """Score and adapt without a referee; the nats are summed with the referee's own function.

    After the full plan the cheaper ones are timed as well, by the level in the declared state: fewer epochs, frozen.
    """
    started = time.monotonic()
    predictor = ready(options, config)
    warm_up_s = time.monotonic() - started
    peak = torch.cuda.max_memory_allocated() / 1e9 if options.device == "cuda" else 0.0
    graphs = int(counters["stats"]["unique_graphs"])
    plans = {}
    for level, plan in enumerate(predictor.levels):
        plans[str(plan)] = timed_chunks(options, config, predictor, level)
    full = next(iter(plans.values()))
    return {
        "warm_up_s": round(warm_up_s, 1),
        "graphs": graphs,
        "graphs_after_warm_up": int(counters["stats"]["unique_graphs"]) - graphs,
        "chunk_s": full["chunk_s"],
        "nats_a_target": full["nats_a_target"],
        "plans": plans,
        "peak_memory_gb": round(peak, 2),
        "keeps_graph": predictor.keeps_graph,
    }


def timed_chunks(options: argparse.Namespace, config: Config, predictor: HybridPredictor, level: int) -> dict:
    """Medians over the chunks after the first WARM_CHUNKS, in seconds; the plan is taken by its level in the state."""
    tokens = torch.from_numpy(stream(options, config).tokens).to(options.device)
    chunks = []
    for chunk in range(options.chunks + WARM_CHUNKS):
        predictor.state()["control"][LEVEL] = level  # each time: the clock allows more, and the pace would take it
        chunks.append(timed_chunk(options, predictor, tokens, chunk))
    score_s, adapt_s, nats = np.array(chunks).T
    print("score_s", np.round(score_s, 4).tolist(), file=sys.stderr)
    score_s, adapt_s = score_s[WARM_CHUNKS:], adapt_s[WARM_CHUNKS:]
    both = score_s + adapt_s
    return {
        "chunk_s": float(np.median(both)),
        "score_s": float(np.median(score_s)),
        "adapt_s": float(np.median(adapt_s)),
        "slowest_score_s": float(score_s.max()),
        "fastest_chunk_s": float(both.min()),
        "slowest_chunk_s": float(both.max()),
        "nats_a_target": float(nats.mean()) / predictor.chunk_tokens,
        "full_set_s_extrapolated": round(FULL_SET / predictor.chunk_tokens * float(np.median(both)), 2),
    }


def timed_chunk(
    options: argparse.Namespace, predictor: HybridPredictor, tokens: torch.Tensor, chunk: int
) -> tuple[float, float, float]:
    """Seconds to score a chunk and to adapt to it, and its nats."""
    at, row, nats = chunk * predictor.chunk_tokens, 0, 0.0
    inputs, targets = tokens[at : at + predictor.chunk_tokens], tokens[at + 1 : at + predictor.chunk_tokens + 1]
    wait(options)
    started = time.monotonic()
    with torch.no_grad():
        for slab in predictor.score(inputs):
            nats += float(token_nats(slab, targets[row : row + len(slab)]).sum())
            row += len(slab)
    wait(options)
    middle = time.monotonic()
    predictor.adapt(inputs, targets)
    wait(options)
    return middle - started, time.monotonic() - middle, nats


def refereed(options: argparse.Namespace, config: Config) -> dict:
    """The same through the referee's client, with a worker process at the other end of its channel.

    Before each chunk, while the worker waits, this process scores a chunk and adapts to it by itself.
    """
    channel, theirs = Channel.pair()
    device = shared_device() if options.device == "cuda" else None
    limits = replace(load_track("10min_16mb").limits, chunk_tokens=1 << 22, message_s=options.timeout)
    command = [sys.executable, __file__, "--role", "worker", "--fd", str(theirs.fileno()), *shared_arguments(options)]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=sys.stderr)
    theirs.close()
    whole = stream(options, config)
    tokens = torch.from_numpy(whole.tokens).to(options.device)
    predictor = ready(options, config)
    own: list[float] = []
    spans: list[float] = []

    class ByTurns(EvalClient):
        began = 0.0

        def score(self, chunk, inputs):
            spans.append(time.monotonic() - self.began)
            score_s, adapt_s, _ = timed_chunk(options, predictor, tokens, chunk)
            own.append(score_s + adapt_s)
            self.began = time.monotonic()
            return super().score(chunk, inputs)

    try:
        with ByTurns([channel], limits, config.vocab_size, device) as client:
            client.ranks.deadline_ns = time.monotonic_ns() + int(options.timeout * 1e9)
            started = time.monotonic()
            client.prepare()
            warm_up_s = time.monotonic() - started
            chunks = whole.chunks(client.hello.chunk_tokens)
            keeper = Keeper(chunks, whole=8, positions=64, secret=bytes(32))
            keeper.reserve(client.buffers.state)
            ledger = ScoreLedger(whole)
            client.start()
            score_stream(client, ledger, adapt=True, witness=keeper)
            client.stop()
    finally:
        channel.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    pairs = np.array(list(zip(spans[1:], own, strict=False)))[WARM_CHUNKS:]  # the last chunk is not adapted to
    ratios = pairs[:, 0] / pairs[:, 1] - 1
    nats, targets, _ = ledger.totals()
    return {
        "warm_up_s": round(warm_up_s, 1),
        "device_buffers": device is not None,
        "pairs": len(pairs),
        "refereed_chunk_s": float(np.median(pairs[:, 0])),
        "in_process_chunk_s": float(np.median(pairs[:, 1])),
        "overhead": [round(float(x), 4) for x in (np.median(ratios), ratios.min(), ratios.max())],
        "full_set_s_refereed_extrapolated": round(
            FULL_SET / client.hello.chunk_tokens * float(np.median(pairs[:, 0])), 2
        ),
        "nats_a_target": nats / targets,
        "state_bytes": client.hello.state_bytes,
    }


def worker(options: argparse.Namespace, config: Config) -> None:
    """The submission's side of ``refereed``."""
    told = context(config, options)
    environment = CellEnvironment(
        "eval", "bench", 1, config.vocab_size, cpu_cores=os.cpu_count() or 1, gpus=int(options.device == "cuda"),
        limit_s=told.eval_s, stage="final", total_targets=told.total_targets, channel_fd=options.fd,
    )  # fmt: skip
    serve_on(environment.open_channel(), environment, lambda _: build(options, config, told))


def ready(options: argparse.Namespace, config: Config) -> HybridPredictor:
    predictor = build(options, config, context(config, options))
    predictor.bind_state({name: t.clone() for name, t in predictor.state().items()})
    predictor.warm_up()
    token_nats(torch.zeros(2, 2, device=options.device), torch.zeros(2, dtype=torch.int64))  # the referee's kernel too
    return predictor


def build(options: argparse.Namespace, config: Config, told: EvalContext) -> HybridPredictor:
    torch.manual_seed(1)
    if options.device == "cuda":
        torch.cuda.set_device(0)
    return HybridPredictor(build_model(config).to(options.device).eval(), config, told)


def context(config: Config, options: argparse.Namespace) -> EvalContext:
    return EvalContext("final", None, None, config.vocab_size, 1e9, stream(options, config).targets, 0, 1)


def stream(options: argparse.Namespace, config: Config) -> Stream:
    """Random tokens, the lower the likelier; one chunk more than is measured, for the last one is not adapted to."""
    targets = (options.chunks + WARM_CHUNKS + 1) * config.eval_seq_len * config.ttt_chunk_windows
    random = np.random.default_rng(1)
    tokens = (config.vocab_size * random.random(targets + 1) ** 3).astype(np.int64)
    return Stream(tokens, np.full(targets, 4, np.int64), targets)


def wait(options: argparse.Namespace) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()


def shared_arguments(options: argparse.Namespace) -> list[str]:
    arguments = ["--recipe", options.recipe, "--chunks", str(options.chunks), "--device", options.device]
    return [*arguments, "--timeout", str(options.timeout), *(a for pair in options.env for a in ("--env", pair))]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="pr1890", help="preset of the submission")
    parser.add_argument("--chunks", type=int, default=8, help="chunks to measure, after two to warm up")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the submission")
    parser.add_argument("--timeout", type=float, default=500.0, help="seconds for one measurement")
    parser.add_argument("--role", choices=("inprocess", "refereed", "worker"), help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, default=-1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
