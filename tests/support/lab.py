"""A referee around a predictor in a thread: the real messages, buffers, loop and audits, without processes.

Each worker gets ``build`` called anew. Give it a ``build`` that makes fresh globals (see ``fresh_build``) where a
predictor must not share memory with its replicas.
"""

import runpy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace

from harness.config.tracks import load_track
from harness.errors import RuleBroken
from harness.protocol.environment import CellEnvironment
from harness.protocol.messages import Channel
from harness.protocol.serve import serve_on
from harness.record.predicate import AuditResult
from harness.rules import Finding, Verdict
from harness.sandbox.answers import OutOfTime, RankFailed
from harness.scoring.audit import ROW_SHARE, audit_findings, judge_replays, replica_lost
from harness.scoring.client import EvalClient
from harness.scoring.ledger import ScoreLedger, Stream
from harness.scoring.loop import score_stream
from harness.scoring.nll import NotFinite
from harness.scoring.replay import Original, Replayer
from harness.scoring.sample import Keeper, draw_audits, frequency_nats


def cell_environment(vocab_size: int, total_targets: int = 0, stage: str = "final") -> CellEnvironment:
    return CellEnvironment(
        "eval", "smoke", 1, vocab_size, cpu_cores=1, gpus=0, limit_s=60.0, stage=stage, total_targets=total_targets
    )


class Worker:
    """An eval worker in a thread, and the referee's client of it."""

    def __init__(
        self, build: Callable, vocab_size: int, *, targets: int = 0, message_s: float = 800.0, stage: str = "final"
    ) -> None:
        channel, theirs = Channel.pair()
        environment = cell_environment(vocab_size, targets, stage)
        self._thread = threading.Thread(target=self._serve, args=(Channel(theirs), environment, build), daemon=True)
        self._channel = channel
        limits = replace(load_track("smoke").limits, chunk_tokens=1 << 20, state_bytes=1 << 30, message_s=message_s)
        self.client = EvalClient([channel], limits, vocab_size)

    def _serve(self, channel: Channel, environment: CellEnvironment, build: Callable) -> None:
        try:
            getattr(build, "serve", serve_on)(channel, environment, build)
        except SystemExit:
            pass
        finally:
            channel.close()

    def __enter__(self) -> EvalClient:
        self._thread.start()
        return self.client.__enter__()

    def __exit__(self, *error) -> None:
        self.client.__exit__(*error)
        self._channel.close()
        self._thread.join(timeout=10)


@dataclass
class Outcome:
    """What the referee concludes: a rule that ended the run, or a score with findings."""

    ended_by: str = ""
    reason: str = ""
    bpb: float = float("nan")
    nats: float = float("nan")
    targets: int = 0
    audits: list[AuditResult] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def fired(self) -> set[str]:
        """Rules that ended the run, failed or warn."""
        ended = {self.ended_by} if self.ended_by else set()
        return ended | {f.rule for f in self.findings if f.verdict in (Verdict.FAIL, Verdict.WARN)}


def referee(
    build: Callable,
    stream: Stream,
    vocab_size: int,
    *,
    chunks: int = 8,
    positions: int = 64,
    escape_nats: float = 0.3,
    tolerance_nats: float = 1e-4,
    floor_bpb: float = 0.9,
    message_s: float = 800.0,
    secret: bytes = bytes(range(32)),
) -> Outcome:
    """Score ``stream`` with and without adaptation, and audit the predictor as the final stage does."""
    torch.set_num_threads(1)
    try:
        plan = {"whole": chunks, "positions": positions, "secret": secret}
        keeper, ledger, hello = _score(build, stream, vocab_size, message_s, plan)
        _, frozen, *_ = _score(build, stream, vocab_size, message_s)
    except RankFailed as error:
        return Outcome("S3-PROTOCOL", str(error))
    except OutOfTime:
        return Outcome("A2-EVAL-CLOCK")
    except NotFinite as error:
        return Outcome("C2-NORMALISED", str(error))
    except RuleBroken as error:
        return Outcome(error.rule, error.message)
    draws = draw_audits(
        ledger.nats,
        frequency_nats(stream.tokens[1 : stream.targets + 1]),
        frozen.nats,
        chunk_tokens=hello.chunk_tokens,
        escape_nats=ROW_SHARE * escape_nats,
        secret=secret,
    )
    original = Original(stream, ledger.nats, keeper, draws)
    try:
        replays = []
        for replay in (Replayer.cuts, Replayer.truths):
            with Worker(build, vocab_size, targets=stream.targets, message_s=message_s) as client:
                client.prepare(like=hello)
                client.start()
                replays.append(replay(Replayer(client, original)))
                client.stop()
        audits = judge_replays(original, *replays, tolerance_nats=tolerance_nats, escape_nats=escape_nats)
    except RankFailed as error:
        audits = replica_lost(original, tolerance_nats, str(error))
    nats, targets, n_bytes = ledger.totals()
    bpb = nats / np.log(2) / n_bytes
    findings = audit_findings(audits, bpb=bpb, floor_bpb=floor_bpb, degenerate=keeper.degenerate())
    return Outcome(bpb=bpb, nats=nats, targets=targets, audits=audits, findings=findings)


def _score(build: Callable, stream: Stream, vocab_size: int, message_s: float, plan: dict | None = None):
    """Keeper, ledger, chunks and hello of a run that adapts; without a ``plan`` the model stays as it was packed."""
    stage = "final" if plan else "packed"
    with Worker(build, vocab_size, targets=stream.targets, message_s=message_s, stage=stage) as client:
        client.prepare()
        hello = client.hello
        spans, ledger, keeper = stream.chunks(hello.chunk_tokens), ScoreLedger(stream), None
        if plan:
            keeper = Keeper(spans, **plan)
            keeper.reserve(client.buffers.state)
        client.start()
        score_stream(client, ledger, adapt=bool(plan), witness=keeper)
        client.stop()
    return keeper, ledger, hello


def cheats_in(path: Path) -> dict[str, str]:
    """Name in the zoo -> name in the file, of each cheat of a file: ``cheat`` or several that share a twin."""
    names = [name for name in runpy.run_path(str(path)) if name.startswith("cheat")]
    return {path.stem + name.removeprefix("cheat"): name for name in names}


def fresh_build(source: Path, name: str = "build") -> Callable:
    """A ``build`` that runs the file anew for each worker, so that module globals are not shared between them.

    A file with a function ``serve_<name>(channel, environment, build)`` brings a worker of its own, which may lie.
    """

    def build(context):
        return runpy.run_path(str(source))[name](context)

    own = runpy.run_path(str(source)).get(f"serve_{name}")
    if own:
        build.serve = own
    return build


def markov_stream(vocab_size: int = 32, targets: int = 4000, seed: int = 0) -> Stream:
    """A stream with structure: each token has two likely successors. Three bytes a target."""
    random = np.random.default_rng(seed)
    successors = random.integers(0, vocab_size, (vocab_size, 2))
    tokens = np.zeros(targets + 1, np.int64)
    for i in range(1, targets + 1):
        tokens[i] = (
            successors[tokens[i - 1], random.integers(2)] if random.random() < 0.9 else random.integers(vocab_size)
        )
    return Stream(tokens, np.full(targets, 3, np.int64), targets)
