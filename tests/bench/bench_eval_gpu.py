"""Speed of evaluation on one GPU, and what the referee costs: the same predictor in one process and refereed.

    python tests/bench/bench_eval_gpu.py                      # pr1890, random weights and tokens, one JSON object
    python tests/bench/bench_eval_gpu.py --env EVAL_MODE=overlap --chunks 16
    python tests/bench/bench_eval_gpu.py --device cpu --recipe smoke --chunks 4    # tries the script itself

Each measurement runs in a process of its own, in the order in-process, refereed, in-process, so the two in-process runs
show the spread. They also time the cheaper plans: fewer epochs, frozen. Times for the whole set are extrapolated from
the measured tokens. The refereed run uses the real messages, buffers, loop, nats and kept states; it leaves out the
sandbox, which costs nothing per chunk. ``overhead`` is refereed over in-process time of a chunk (medians), less one.
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
from harness.protocol.environment import CellEnvironment  # noqa: E402
from harness.protocol.messages import Channel  # noqa: E402
from harness.protocol.predictor import EvalContext  # noqa: E402
from harness.protocol.serve import serve_on  # noqa: E402
from harness.scoring.client import EvalClient, shared_device  # noqa: E402
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
    runs = {}
    for name, role in (("in-process 1", "inprocess"), ("refereed", "refereed"), ("in-process 2", "inprocess")):
        runs[name] = child(role, options)
        print(f"{name}: {json.dumps(runs[name])}", file=sys.stderr, flush=True)
    print(json.dumps(summary(options, config, runs), indent=1))


def summary(options: argparse.Namespace, config: Config, runs: dict[str, dict]) -> dict:
    gpu = options.device == "cuda"
    result = {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": torch.__version__,
        "recipe": options.recipe,
        "changed": options.env,
        "tokens_a_chunk": config.eval_seq_len * config.ttt_chunk_windows,
        "epochs": config.ttt_epochs,
        "runs": runs,
    }
    own = [name for name in ("in-process 1", "in-process 2") if "chunk_s" in runs[name]]
    if len(own) == 2:
        mean = sum(runs[name]["chunk_s"] for name in own) / len(own)
        tokens = result["tokens_a_chunk"]
        result["tokens_per_s"] = round(tokens / mean)
        result["full_set_tokens"] = FULL_SET
        result["measured_tokens"] = tokens * options.chunks
        result["full_set_s_extrapolated"] = {
            plan: round(sum(runs[name]["plans"][plan]["full_set_s_extrapolated"] for name in own) / len(own), 2)
            for plan in runs["in-process 1"]["plans"]
        }
        if "chunk_s" in runs["refereed"]:
            result["overhead"] = round(runs["refereed"]["chunk_s"] / mean - 1, 4)
            result["full_set_s_refereed_extrapolated"] = round(FULL_SET / tokens * runs["refereed"]["chunk_s"], 2)
    return result


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
    predictor = build(options, config, context(config, options))
    predictor.bind_state({name: t.clone() for name, t in predictor.state().items()})
    predictor.warm_up()
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
    size, score_s, adapt_s, nats = predictor.chunk_tokens, [], [], 0.0
    for chunk in range(options.chunks + WARM_CHUNKS):
        inputs = tokens[chunk * size : (chunk + 1) * size]
        targets = tokens[chunk * size + 1 : (chunk + 1) * size + 1]
        predictor.state()["control"][LEVEL] = level
        wait(options)
        started, row = time.monotonic(), 0
        with torch.no_grad():
            for slab in predictor.score(inputs):
                nats += float(token_nats(slab, targets[row : row + len(slab)]).sum())
                row += len(slab)
        wait(options)
        middle = time.monotonic()
        predictor.adapt(inputs, targets)
        wait(options)
        score_s.append(middle - started)
        adapt_s.append(time.monotonic() - middle)
    score_s, adapt_s = score_s[WARM_CHUNKS:], adapt_s[WARM_CHUNKS:]
    both = np.add(score_s, adapt_s)
    return {
        "chunk_s": float(np.median(both)),
        "score_s": float(np.median(score_s)),
        "adapt_s": float(np.median(adapt_s)),
        "fastest_chunk_s": float(both.min()),
        "slowest_chunk_s": float(both.max()),
        "nats_a_target": nats / ((options.chunks + WARM_CHUNKS) * size),
        "full_set_s_extrapolated": round(FULL_SET / size * float(np.median(both)), 2),
    }


def refereed(options: argparse.Namespace, config: Config) -> dict:
    """The same through the referee's client, with a worker process at the other end of its channel."""
    channel, theirs = Channel.pair()
    device = shared_device() if options.device == "cuda" else None
    limits = replace(load_track("10min_16mb").limits, chunk_tokens=1 << 22, message_s=options.timeout)
    command = [sys.executable, __file__, "--role", "worker", "--fd", str(theirs.fileno()), *shared_arguments(options)]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=sys.stderr)
    theirs.close()
    whole = stream(options, config)
    times: list[float] = []
    try:
        with EvalClient([channel], limits, config.vocab_size, device) as client:
            client.ranks.deadline_ns = time.monotonic_ns() + int(options.timeout * 1e9)
            started = time.monotonic()
            client.prepare()
            warm_up_s = time.monotonic() - started
            chunks = whole.chunks(client.hello.chunk_tokens)
            keeper = Keeper(chunks, whole=8, positions=64, secret=bytes(32))
            keeper.reserve(client.buffers.state)
            ledger = ScoreLedger(whole)
            client.start()
            times.append(time.monotonic())
            score_stream(
                client,
                whole,
                ledger,
                chunk_tokens=client.hello.chunk_tokens,
                adapt=True,
                witness=keeper,
                committed=lambda _: times.append(time.monotonic()),
            )
            client.stop()
    finally:
        channel.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # the time between two commits holds one adaptation and one score: as many of each as chunks
    spans = np.diff(times)[WARM_CHUNKS:-1]
    nats, targets, _ = ledger.totals()
    return {
        "warm_up_s": round(warm_up_s, 1),
        "device_buffers": device is not None,
        "chunk_s": float(np.median(spans)),
        "fastest_chunk_s": float(spans.min()),
        "slowest_chunk_s": float(spans.max()),
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
