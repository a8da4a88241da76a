"""Phase 4: fresh replicas replay what the referee kept of the final evaluation, in the referee's own time.

One draw a run: every place follows from a secret that was fixed when the submission was sealed, so a run that is
resumed is audited at the same places. Whatever the worker does instead of an answer is a FAIL, not an error: it must
not be able to ask for another try. Only what the kernel counts as want of memory is the machine's.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import CouldNotCheck, RuleBroken
from harness.phases.context import RunContext
from harness.phases.evaluate import A2_EVAL_CLOCK, Evaluation, eval_cell, failures_named
from harness.record.predicate import AuditResult
from harness.scoring.audit import ROW_SHARE, judge_replays, replica_lost
from harness.scoring.ledger import Stream
from harness.scoring.replay import Original, Replay, Replayer
from harness.scoring.sample import draw_audits, frequency_nats
from harness.text import without_places

REPLICAS = (("replica-1", Replayer.cuts), ("replica-2", Replayer.truths))
SLOWER = 5.0  # a replica may take so many times as long for a chunk as the slower of the two passes did


def audit(
    context: RunContext,
    evaluation: Evaluation,
    packed: Evaluation,
    stream: Stream,
    *,
    limit_s: float,
    told: int | None = None,
) -> list[AuditResult]:
    """Replay on two replicas, started from the artifact alone like the evaluation itself, one after the other.

    packed:  of the same model without adaptation, over the first targets of ``stream``
    limit_s, told: what the final evaluation was told, so that a replica cannot tell itself from it by its environment
    """
    plan, keeper = context.track.audit, evaluation.keeper
    assert keeper is not None
    with context.clock.span("audit"):
        draws = draw_audits(
            evaluation.nats,
            frequency_nats(stream.tokens[1 : stream.targets + 1]),
            packed.nats,
            chunk_tokens=evaluation.hello.chunk_tokens,
            escape_nats=ROW_SHARE * plan.escape_nats,
            secret=keeper.sample.secret,
        )
        original = Original(stream, evaluation.chunks, evaluation.nats, keeper, draws)
        steps = sum(map(len, original.cuts().values())) + 3 * len(keeper.sample.whole)
        with context.progress.stage("audit", steps, "replays") as shown:
            done = 0

            def step() -> None:
                nonlocal done
                done += 1
                shown.update(done)

            chunk_s = max(passed.score.seconds / len(passed.chunks) for passed in (packed, evaluation))
            allowed_s = context.track.limits.warmup_s + max(600.0, SLOWER * steps * chunk_s)
            try:
                first, second = (
                    _replay(context, evaluation, original, name, work, limit_s, told or stream.targets, allowed_s, step)
                    for name, work in REPLICAS
                )
            except RuleBroken as error:
                return replica_lost(original, plan.tolerance_nats, without_places(error.message))
    return judge_replays(original, first, second, tolerance_nats=plan.tolerance_nats, escape_nats=plan.escape_nats)


def _replay(
    context: RunContext,
    evaluation: Evaluation,
    original: Original,
    name: str,
    work: Callable[[Replayer], Replay],
    limit_s: float,
    targets: int,
    allowed_s: float,
    step: Callable[[], None],
) -> Replay:
    """One replica, from its start to its end: the next one starts when nothing of it is left."""
    deadline_ns, killed = time.monotonic_ns() + int(allowed_s * 1e9), _killed_for_memory()
    with eval_cell(context, "final", name, limit_s=limit_s, targets=targets) as (cell, client):
        try:
            with failures_named(context, name, cell, client, deadline_ns, allowed_s, audited=True):
                client.prepare(like=evaluation.hello)
                client.start()
                replay = work(Replayer(client, original, step))
                client.stop()
        except RuleBroken as error:
            gone = error.rule != A2_EVAL_CLOCK and -signal.SIGKILL in cell.exit_codes()  # killed, and not by us
            if gone and _killed_for_memory() > killed:
                raise CouldNotCheck(
                    f"the kernel killed a replica for want of memory: {error.message}",
                    remedy="Free some memory, then `harness submit --resume`: the draws stay the same.",
                ) from error
            raise
    return replay


def _killed_for_memory() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
