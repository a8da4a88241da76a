"""Evaluation: one pass over the validation stream, driven by the referee; then the audit of it by fresh replicas.

One draw of audits a run: every place follows from a secret that was fixed when the submission was sealed, so a run that
is resumed is audited at the same places. Whatever a replica does instead of an answer is a FAIL, not an error: it must
not be able to ask for another try. Only what the kernel counts as want of memory is the machine's.
"""

import errno
import itertools
import lzma
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.clock.spans import A2_EVAL_CLOCK, Span
from harness.errors import CouldNotCheck, RuleBroken
from harness.files import remove_tree, tree
from harness.protocol.buffers import shared_device
from harness.protocol.predictor import Stage
from harness.protocol.session import MODEL_FILE
from harness.record.predicate import AuditResult, Score
from harness.run.cells import RunContext, phase_cell
from harness.run.conversation import failure, failures_named, why_uncountable
from harness.sandbox.cell import Cell
from harness.scoring import nll
from harness.scoring.audit import ROW_SHARE, judge_replays, replica_lost
from harness.scoring.client import EvalClient, Hello, Meanwhile
from harness.scoring.ledger import ScoreLedger, Stream
from harness.scoring.loop import score_stream
from harness.scoring.nll import NotFinite
from harness.scoring.replay import Original, Replay, Replayer
from harness.scoring.sample import FLOOR_NATS, MOST_DRAWS, Keeper, Nats, draw_audits, draws_for, frequency_nats
from harness.text import without_places
from harness.units import bits_per_byte

COMPILE = "compile"
COPIED = "compiled"
FASTER = "Use fewer adaptation epochs, or smaller steps."
CACHE_BYTES = 1 << 30  # what of a compile cache is counted at most
SLOWER = 5.0  # a replica may take so many times as long for a chunk as the slower of the two passes did
CACHE_SHARE = 0.25  # of the artifact's cap: the most that a compile cache may pack to


class Told(NamedTuple):
    """What a cell is told of its pass. All cells of the final stage are told the same, whatever they are for.

    So a replica, or the cell of a second scoring, can't tell itself from the one that counts by its environment.

    limit_s: seconds on the clock; targets: how many there are to score
    """

    limit_s: float
    targets: int


@dataclass(frozen=True)
class Evaluation:
    """The result of one pass.

    nats:      committed, float64 (targets,); precision: in words, how the referee computed them
    hello, keeper: serve the audits of the final stage; only that one has a keeper
    """

    score: Score
    running_bpb: list[tuple[int, float]]
    nats: Nats
    precision: str
    hello: Hello
    keeper: Keeper | None


def evaluate(
    context: RunContext,
    stage: Stage,
    stream: Stream,
    told: Told,
    *,
    allowed_s: float | None = None,
    begins: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score ``stream`` with the model of ``stage``; only the final stage adapts, is audited and counts in the budget.

    allowed_s: seconds that it gets, where that is not what it is told
    begins:    called when the cell is warm, before it sees a token
    Raises ``RuleBroken``: A2-EVAL-CLOCK, S3-PROTOCOL, or C2-NORMALISED for logits that are not finite.
    """
    final = stage == "final"
    allowed_s = allowed_s or told.limit_s
    with eval_cell(context, stage, stage, told) as (cell, client):
        title, reserve = "warmup" if final else f"warmup {stage}", partial(reserve_keeper, context, stream, client)
        keeper = warm_up(context, client, cell, span=title, meanwhile=reserve if final else lambda: None)
        hello, ledger = client.hello, ScoreLedger(stream)
        begins()
        with (
            context.progress.stage(f"eval {stage}", stream.targets, "targets") as shown,
            context.clock.span("eval" if final else f"eval {stage}", limit_s=allowed_s, budget="eval" * final) as span,
            failures_named(context, cell, span, rule=A2_EVAL_CLOCK, remedy=FASTER, ranks=client.ranks),
        ):
            started = time.monotonic()
            client.start()
            try:
                score_stream(client, ledger, adapt=final, witness=keeper, committed=shown.update)
            except NotFinite as error:
                text, remedy = f"{stage}: the logits for target {error.row:,}", "Return finite logits for every entry."
                raise RuleBroken("C2-NORMALISED", f"{text} are NaN or infinite.", remedy=remedy) from None
            seconds = time.monotonic() - started
            client.stop()
        precision = nll.PRECISION if client.buffers.device is None else nll.PRECISION_ON_DEVICE
    nats, targets, n_bytes = ledger.totals()
    whole_set = stream.targets == len(stream.tokens) - 1
    score = Score(stage, nats, targets, n_bytes, bits_per_byte(nats, n_bytes), whole_set, round(seconds, 6))
    return Evaluation(score, ledger.running_bpb(), ledger.nats, precision, hello, keeper)


def reserve_keeper(context: RunContext, stream: Stream, client: EvalClient) -> Keeper:
    """The audits' witness, with memory for the state before every chunk, before the clock starts.

    So state and number of chunks bound each other: a state that takes all memory leaves room for few chunks. And large
    chunks would make the audits long: each draw is a pass over one, on average over half of it. There are at most as
    many draws as a score of 0 nats takes, once over the tokens' frequencies and once over the packed model.
    """
    plan, state, chunks = context.track.audit, client.hello.state_bytes, stream.chunks(client.hello.chunk_tokens)
    weight = float(frequency_nats(stream.tokens[1:]).mean()) + FLOOR_NATS
    draws = min(MOST_DRAWS, draws_for(ROW_SHARE * plan.escape_nats, weight))
    largest = plan.replayed_tokens // draws
    if min(client.hello.chunk_tokens, len(stream.tokens)) > largest:
        reason = (
            f"it declares chunks of {client.hello.chunk_tokens:,} tokens; {draws:,} draws of the audits take chunks of "
            f"at most {largest:,}, for replicas to read at most {plan.replayed_tokens:,} tokens"
        )
        raise failure(context, "final", reason, remedy="Use smaller chunks.")
    needed, most = state * len(chunks), context.track.limits.memory_bytes
    if needed > most:
        reason = (
            f"it declares {state:,} bytes of state and {len(chunks):,} chunks of {client.hello.chunk_tokens:,} tokens; "
            f"the referee keeps the state before each, {needed:,} bytes, and track {context.track.name} allows {most:,}"
        )
        raise failure(context, "final", reason, remedy="Use larger chunks, or less state.")
    if needed > (free := psutil.virtual_memory().available):
        text = f"the audits keep {needed:,} bytes of states, and this machine has {free:,} bytes of memory free."
        raise CouldNotCheck(text, remedy="Free some memory, or use a machine with more.")
    keeper = Keeper(chunks, whole=plan.chunks, positions=plan.positions, secret=context.audit_secret)
    keeper.reserve(client.buffers.state)
    return keeper


def compile_once(context: RunContext, told: Told) -> None:
    """Let a cell of its own warm up, and keep what its compiler wrote for every later cell of the evaluation.

    It starts from the artifact like the final stage and is killed before it has seen a token of the stream. So what it
    leaves follows from the counted files, and hands nothing on that they do not hold. Nothing of it is read here.
    """
    if not context.compiles:
        return
    context.compile_cache_dir.mkdir()
    with eval_cell(context, "final", COMPILE, told, fills_cache=True) as (cell, client):
        warm_up(context, client, cell, span=f"warmup {COMPILE}")
    try:
        context.compiled_bytes = _hand_on(context.compile_cache_dir)
    except OSError as error:
        text = f"the compile cache {why_uncountable(error, context.compile_cache_dir)}."
        remedy = "Leave files and folders that their owner can read, and no more of them than a compiler does."
        raise RuleBroken("A3-NO-UNCOUNTED-CODE", text, remedy=remedy) from None
    most = int(CACHE_SHARE * context.track.limits.artifact_bytes)
    if context.compiled_bytes > most:
        raise RuleBroken(
            "A3-NO-UNCOUNTED-CODE",
            f"the compile cache packs to {context.compiled_bytes:,} bytes; at most {most:,}, {CACHE_SHARE:.0%} of the "
            "artifact's cap, are taken for compiled code.",
            remedy="Keep only what the compiler wrote; what the model needs is counted in model.bin.",
        )


def _hand_on(folder: Path) -> int:
    """Size of a folder's names, links and contents together, packed; a copy that has only these takes its place.

    So what is counted is all that is handed on: modes, times, the order of files, holes and links among them would
    carry some 27 bits a file. Compiled code packs to a fraction, and the copies of several ranks to nothing; trained
    numbers hardly pack. Zeros pack to nothing too, so how much is read at all has an end.
    Raises ``OSError``: EFBIG for more than that.
    """
    packer = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 26}])
    size = read = 0
    (copy := folder.with_name(COPIED)).mkdir()
    for path in tree(folder):
        name, found = path.relative_to(folder), path.lstat()  # raises for a path that is too long, as is_file() may not
        kind, length = stat.S_IFMT(found.st_mode), found.st_size * stat.S_ISREG(found.st_mode)
        size += len(packer.compress(b"%s\0%o %d " % (os.fsencode(name), kind, length)))
        if stat.S_ISDIR(kind):
            (copy / name).mkdir()
        elif stat.S_ISLNK(kind):
            (copy / name).symlink_to(target := path.readlink())
            size += len(packer.compress(os.fsencode(target)))
        elif stat.S_ISREG(kind):
            with path.open("rb") as file, (copy / name).open("xb") as written:
                while read <= CACHE_BYTES and (block := file.read(1 << 20)):
                    size, read = size + len(packer.compress(block)), read + written.write(block)
        if read > CACHE_BYTES:
            raise OSError(errno.EFBIG, f"it has over {CACHE_BYTES:,} bytes", str(path))
    remove_tree(folder)
    copy.rename(folder)
    return size + len(packer.flush())


@contextmanager
def eval_cell(
    context: RunContext, stage: Stage, name: str, told: Told, *, fills_cache: bool = False
) -> Iterator[tuple[Cell, EvalClient]]:
    """A cell that runs the eval module of ``stage``, and the client that drives it. Replicas use the final stage.

    Packed and final stages see the artifact alone [A3-NO-UNCOUNTED-CODE]: code from the counted bundle, and the counted
    model file; and what ``compile_once`` made from these two, which only its own cell (``fills_cache``) may write.
    """
    track, cache = context.track, context.compile_cache_dir
    readable = [context.checkpoint_dir if stage == "float" else context.artifact_dir / MODEL_FILE]
    extra = {"GOLF_CHECKPOINT_DIR" if stage == "float" else "GOLF_MODEL_FILE": str(readable[0])}
    if fills_cache:
        extra["GOLF_COMPILE_CACHE_OUT"] = str(cache)
    elif cache.is_dir():
        readable.append(cache)
        extra["GOLF_COMPILE_CACHE"] = str(cache)
    device = shared_device() if track.hardware.gpus else None
    with (
        phase_cell(
            context,
            "eval",
            name=name,
            limit_s=told.limit_s,
            ranks=track.ranks if context.sealed.manifest.eval_ranks == "all" else 1,
            read=tuple(readable),
            write=(cache,) if fills_cache else (),
            extra=extra | {"GOLF_STAGE": stage, "GOLF_TOTAL_TARGETS": str(told.targets)},
        ) as cell,
        EvalClient(cell.channels, track.limits, track.vocab_size, device) as client,
    ):
        yield cell, client


def warm_up(
    context: RunContext, client: EvalClient, cell: Cell, *, span: str, meanwhile: Meanwhile = lambda: None
) -> Keeper | None:
    """The warm-up span: load, compile, touch kernels on random tokens. Its own limit, no budget.

    meanwhile: the referee's own work, which is returned; after the span the worker would have its time without a limit
    """
    limit_s, remedy = context.track.limits.warmup_s, "Load and compile less in warm_up()."
    with (
        context.progress.stage(span, None),
        context.clock.span(span, limit_s=limit_s) as clock,
        failures_named(context, cell, clock, rule=A2_EVAL_CLOCK, remedy=remedy, ranks=client.ranks),
    ):
        return client.prepare(meanwhile=meanwhile)


def audit(
    context: RunContext, evaluation: Evaluation, packed: Evaluation, stream: Stream, told: Told
) -> list[AuditResult]:
    """Replay on two replicas, started from the artifact alone like the evaluation itself, one after the other.

    packed: of the same model without adaptation, over the first targets of ``stream``
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
            secret=keeper.secret,
        )
        original = Original(stream, evaluation.nats, keeper, draws)
        steps = sum(map(len, original.cuts().values())) + 3 * len(keeper.whole)
        target_s = max(run.score.seconds / run.score.targets for run in (packed, evaluation))  # whatever their chunks
        chunk_s = target_s * min(evaluation.hello.chunk_tokens, stream.targets)
        allowed_s = context.track.limits.warmup_s + max(600.0, SLOWER * steps * chunk_s)
        with context.progress.stage("audit", steps, "replays") as shown:
            done = itertools.count(1)
            replayer = partial(Replayer, original=original, step=lambda: shown.update(next(done)))
            replica = partial(run_replica, context, evaluation.hello, told, allowed_s)
            try:
                first = replica("replica-1", lambda client: replayer(client).cuts())
                second = replica("replica-2", lambda client: replayer(client).truths())
            except RuleBroken as error:
                return replica_lost(original, plan.tolerance_nats, without_places(error.message))
    return judge_replays(original, first, second, tolerance_nats=plan.tolerance_nats, escape_nats=plan.escape_nats)


def run_replica(
    context: RunContext, like: Hello, told: Told, allowed_s: float, name: str, work: Callable[[EvalClient], Replay]
) -> Replay:
    """One replica, from its start to its end: the next one starts when nothing of it is left."""
    clock = Span(name, allowed_s, "", time.monotonic_ns())
    with (
        eval_cell(context, "final", name, told) as (cell, client),
        failures_named(context, cell, clock, rule=A2_EVAL_CLOCK, remedy=FASTER, ranks=client.ranks, audited=True),
    ):
        client.prepare(like=like)
        client.start()
        replay = work(client)
        client.stop()
    return replay
