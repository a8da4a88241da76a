"""Phase 4: fresh replicas replay what the referee kept of the final evaluation, in the referee's own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from harness.errors import RuleBroken
from harness.phases.context import RunContext
from harness.phases.evaluate import Evaluation, eval_cell, failures_named
from harness.record.predicate import AuditResult
from harness.scoring.audit import judge_replays, replica_lost
from harness.scoring.ledger import Stream
from harness.scoring.replay import Replay, Replayer, gain_sample
from harness.scoring.sample import GainSample

REPLICAS = ("replica-1", "replica-2")


def audit(
    context: RunContext, evaluation: Evaluation, stream: Stream, *, limit_s: float, told: int | None = None
) -> list[AuditResult]:
    """Replay the kept chunks on two replicas, started from the artifact alone like the evaluation itself.

    limit_s, told: what the final evaluation was told, so that a replica cannot tell itself from it by its environment
    """
    sample, kept = evaluation.keeper.sample, evaluation.keeper.kept
    gains = gain_sample(sample, kept, stream, evaluation.chunks)
    cuts = sum(len({*rows, *gains.rows.get(chunk, ())}) for chunk, rows in sample.rows.items())
    steps = cuts + 3 * len(sample.rows)
    allowed_s = context.track.limits.warmup_s + max(600.0, 10 * evaluation.score.seconds)
    with context.clock.span("audit"), context.progress.stage("audit", steps, "replays") as shown:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            shown.update(done)

        try:
            targets = told or stream.targets
            first, second = _replay(context, evaluation, stream, gains, limit_s, targets, allowed_s, step)
        except RuleBroken as error:
            return replica_lost(sample, context.track.audit.tolerance_nats, error.message)
    return judge_replays(
        sample,
        kept,
        first,
        second,
        gains=gains,
        starts={chunk: evaluation.chunks[chunk][0] for chunk in sample.rows},
        tolerance_nats=context.track.audit.tolerance_nats,
    )


def _replay(
    context: RunContext,
    evaluation: Evaluation,
    stream: Stream,
    gains: GainSample,
    limit_s: float,
    targets: int,
    allowed_s: float,
    step: Callable[[], None],
) -> tuple[Replay, Replay]:
    """Both replicas load side by side, then work one after the other, so that each has the machine to itself."""
    sample, kept, chunks = evaluation.keeper.sample, evaluation.keeper.kept, evaluation.chunks
    deadline_ns = time.monotonic_ns() + int(allowed_s * 1e9)
    with ExitStack() as stack:
        replicas = []
        for name in REPLICAS:
            cell, client = stack.enter_context(eval_cell(context, "final", name, limit_s=limit_s, targets=targets))
            replicas.append((name, cell, client))
        replays = []
        for (name, cell, client), replay in zip(replicas, (Replayer.cuts, Replayer.truths), strict=True):
            with failures_named(context, name, cell, client, deadline_ns, allowed_s):
                client.prepare()
                client.start()
                replays.append(replay(Replayer(client, stream, chunks, sample, kept, gains, step)))
                client.stop()
    return replays[0], replays[1]
