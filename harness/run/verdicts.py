"""One finding a rule, from what the phases measured."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
from packaging.utils import canonicalize_name

from harness.clock.spans import A1_TRAIN_CLOCK, A2_EVAL_CLOCK, read_clock
from harness.config.tracks import TRAIN_TOLERANCE_S, Hardware, Track
from harness.record.predicate import BudgetEntry, ReadablePart, RunRecord, Score, SpanEntry
from harness.rules import Finding, Verdict, rule
from harness.run.artifact import judge_sizes
from harness.run.cells import Resumed, RunContext, sees_copies
from harness.run.evaluate import Evaluation
from harness.run.machine import MachineWatch, judge_conditions
from harness.run.manifest import accepted_variables, settings_bytes
from harness.run.reserve import ran_beside
from harness.sandbox.layers import Layer
from harness.sandbox.policy import inherited
from harness.sandbox.runtime import TOOLS
from harness.scoring.audit import audit_findings

A1_HARDWARE = "A1-HARDWARE"
KNOWN = frozenset(  # packages of code, not of text or weights
    ("safetensors", "einops", "mamba-ssm", "flash-attn", "causal-conv1d", "flash-linear-attention")
)
BEFORE_CLOCK = {"train": ("setup",), "eval": ("warmup compile", "warmup")}
LONG_PACKAGING = 0.5  # of the training's limit; the committed runs took up to 0.45 of it
PACKAGING_GAIN = 0.001  # bpb; in the committed runs packing loses 0.0003 to 0.0066
LARGE_CACHE = 0.125  # of the cap; larger compile caches are shown to reviewers


def clock_findings(
    context: RunContext, spans: list[SpanEntry], budgets: list[BudgetEntry], scores: Sequence[Score]
) -> list[Finding]:
    """A1 and A2 from the ledger; a run that overran was killed, so this is where measured time meets its limit.

    The track's reading decides. One that keeps it but overruns a stricter published reading is a WARN, as is a packed
    model that scores better than the checkpoint it was made of: packing loses, and what gains is training.
    """
    bpb = {score.stage: score.bpb for score in scores}
    gain = bpb.get("float", 0.0) - bpb.get("packed", math.inf)
    tolerant = context.track.readings.train_clock == "tolerate_200ms"
    findings = []
    for budget in budgets:
        train = budget.name == "train"
        rule_id, over = A1_TRAIN_CLOCK if train else A2_EVAL_CLOCK, budget.used_s - budget.limit_s
        readings = read_clock(rule_id, spans)
        shown = ", ".join(f"{reading.name} {seconds:.3f} s" for reading, seconds in readings)
        before = ", ".join(
            f"{span.name} {span.seconds:.1f} s of {span.limit_s or 0:g} s"
            for span in spans
            if span.name in BEFORE_CLOCK[budget.name]
        )
        packaging = ", packaging counted in it" * (context.track.readings.package_counts_in == budget.name)
        text = f"{budget.used_s:.3f} s of {budget.limit_s:g} s{packaging}. By reading: {shown}. "
        text += f"Before the clock, uncounted: {before or 'nothing'}."
        training = context.training if train else None
        if cut_short := training is not None and training.ended == "clock":
            text += f" The clock cut training short after {training.steps:,} steps: another run may end elsewhere."
        beside_s = sum(span.seconds for span in spans if span.name == "package" and span.budget != "train") * train
        if LONG_PACKAGING * budget.limit_s < beside_s > budget.limit_s - budget.used_s:
            text += f" Packaging took {beside_s:.0f} s more, and a checkpoint can carry training text: "
            text += "see that nothing is trained on there."
        if learnt := beside_s > 0 and gain > PACKAGING_GAIN:
            text += f" The packed model scores {gain:.4f} bpb better than the checkpoint: see what packaging learns."
        verdict = Verdict.PASS
        if over > 0 and not (train and tolerant and over <= TRAIN_TOLERANCE_S):
            verdict = Verdict.FAIL
        elif over > 0 or cut_short or learnt or any(seconds > budget.limit_s for _, seconds in readings):
            verdict = Verdict.WARN
        findings.append(Finding(rule_id, verdict, text))
    return findings


def hardware_findings(hardware: Hardware, gpus: Sequence[str]) -> list[Finding]:
    """A1-HARDWARE of a track that names a GPU model: WARN unless all GPUs of the run, by name, are of it."""
    if not hardware.gpu_model:
        return []
    shown = ", ".join(f"{count}× {name}" for name, count in Counter(gpus).items()) or "no GPU that nvidia-smi names"
    wanted = f"{hardware.gpus}× {hardware.gpu_model}"
    if len(gpus) == hardware.fitting(gpus) == hardware.gpus:
        return [Finding(A1_HARDWARE, Verdict.PASS, f"{shown}.")]
    text = f"ran on {shown}; the track is for {wanted}: its times don't compare with the track's."
    return [Finding(A1_HARDWARE, Verdict.WARN, text, found=shown, wanted=wanted, remedy=rule(A1_HARDWARE).remedy)]


def cell_findings(context: RunContext) -> list[Finding]:
    """S1 and S2: the layers of all cells, and whether anything outlived one."""
    states = sorted((layer, state.in_force) for layer, state in context.isolation.items())
    missing = ", ".join(layer for layer, in_force in states if not in_force)
    held = f"missing: {missing}" if missing else f"in force: {', '.join(layer for layer, _ in states)}"
    survivors = sum(report.survivors for report in context.kills)
    stop_ms = max((report.stopped_ns for report in context.kills), default=0) / 1e6
    gone_ms = max((report.overshoot_ns for report in context.kills), default=0) / 1e6
    ended = f"{survivors} processes outlived {len(context.kills)} cells; slowest stop {stop_ms:.0f} ms, all gone after"
    return [
        Finding("S1-ISOLATION", Verdict.WARN if missing else Verdict.PASS, f"{held}. {_tried(context)}"),
        Finding("S2-NO-SURVIVORS", Verdict.FAIL if survivors else Verdict.PASS, f"{ended} {gone_ms:.0f} ms."),
    ]


def _tried(context: RunContext) -> str:
    guarded = context.isolation.get(Layer.GUARDED)
    tried = guarded.how if guarded else "nothing was there to be tried"
    return f"In the last of {len(context.kills)} cells, as before, {tried}."


def isolation_findings(context: RunContext) -> list[Finding]:
    """The rules that the sandbox enforces by construction, as far as its layers were in force."""
    missing = {layer for layer, state in context.isolation.items() if not state.in_force}
    files, seen = {Layer.LANDLOCK, Layer.GUARDED}, _tried(context)
    held = (
        ("A1-SETUP-NO-DATA", files, "shards are opened by the referee after READY of every rank."),
        ("A4-TRAIN-NO-VAL", files, f"no validation file is readable in training. {seen}"),
        ("A4-EVAL-NO-DATA", files, f"packaging and evaluation can open no data file. {seen}"),
        ("A4-NO-NETWORK", {Layer.NETWORK}, "no network in packaging and evaluation."),
    )
    lacks = "a layer that enforces it is missing here; "
    return [
        Finding(rule_id, Verdict.WARN, lacks + text) if layers & missing else Finding(rule_id, Verdict.PASS, text)
        for rule_id, layers, text in held
    ]


def score_findings(score: Score, precision: str, *, val_targets: int, val_bytes: int) -> list[Finding]:
    """What holds by construction of the loop, with the counts that prove it, and the two byte rules."""
    whole, exact = score.targets == val_targets, score.bytes == val_bytes
    found = (
        ("C2-NORMALISED", True, f"log-softmax over the whole vocabulary, by the referee: {precision}."),
        ("C3-SCORE-BEFORE-UPDATE", True, "targets left the ledger only after their commit."),
        ("C4-SINGLE-PASS", True, f"{score.targets:,} targets, one committed term each."),
        ("C4-COVERAGE", whole, f"{score.targets:,} of {val_targets:,} targets scored, the tail included."),
        ("A7-BPB", True, f"{score.nats:.6f} nats over {score.bytes:,} raw bytes."),
        ("A7-BYTES", exact, f"the byte ledger sums to {score.bytes:,}, the documents hold {val_bytes:,}."),
    )
    return [Finding(rule_id, Verdict.PASS if holds else Verdict.FAIL, text) for rule_id, holds, text in found]


def closure_finding(context: RunContext, readable: list[ReadablePart]) -> Finding:
    """What evaluation ran from; and how much of the machine it could read besides, which no cap counts."""
    text = "evaluation ran from code.bundle and model.bin alone"
    if context.compile_cache_dir.is_dir():
        text += ", and a compile cache made from these two before any token was seen "
        text += f"({context.compiled_bytes:,} bytes packed)"
    if settings := accepted_variables(context.sealed.manifest, context.environ) | inherited(gpus=False):
        text += f"; {settings_bytes(settings):,} bytes of variables were set: {', '.join(sorted(settings))}"
    named = sorted(readable, key=lambda part: -part.bytes)
    most = ", ".join(f"{part.name} {part.bytes / 1e6:.1f} MB" for part in named[:3])
    total = sum(part.bytes for part in readable)
    parts_more = max(0, len(named) - 3)
    text += f". Uncounted, it could read {total / 1e6:,.1f} MB of the machine: {most}, {parts_more} parts more"
    tools = ", compilers and drivers" if any(part.name == TOOLS for part in readable) else "; no manuals, no test data"
    words = "without" if sees_copies(context) else "in a root that is not the cell's own, so with"
    text += f" (code {words} comments and documentation strings{tools})"
    installed = {part.name.rpartition(" ")[0] for part in readable}
    asked = set(map(canonicalize_name, context.sealed.manifest.packages)) & installed  # as cells are given them
    if own := sorted(asked - KNOWN):
        text += f". The submission asked for the packages {', '.join(own)}: a reviewer sees whether they are code"
    cap = context.track.limits.artifact_bytes
    if large := context.compiled_bytes > LARGE_CACHE * cap:
        text += f". The cache is over {LARGE_CACHE:.0%} of the cap: a reviewer sees whether it is code"
    return Finding("A3-NO-UNCOUNTED-CODE", Verdict.WARN if own or large else Verdict.PASS, f"{text}.")


def causal_finding(finding: Finding, resumes: Sequence[Resumed], *, without_packed: bool) -> Finding:
    """C1 with what else bears on it; WARN where that lets a cheat try twice, or get rid of draws on purpose."""
    if finding.rule != "C1-CAUSAL":
        return finding
    text, seen = finding.message, sum(resume.saw_text for resume in resumes)
    if resumes:
        told = "; ".join(map(str, resumes))
        text += f" Resumed {len(resumes)} time(s), the text had been seen in {seen} of them: {told}."
    if without_packed:
        text += " No row was drawn against the packed model, which was not scored; the bound holds without."
    doubted = finding.verdict is Verdict.PASS and (seen or without_packed)
    return msgspec.structs.replace(finding, verdict=Verdict.WARN if doubted else finding.verdict, message=text)


def machine_findings(track: Track, watch: MachineWatch) -> list[Finding]:
    """S7 and A1-HARDWARE of a run that is over."""
    assert watch.conditions is not None
    own = judge_conditions(watch.conditions, watch.seconds)
    if ran_beside():
        text = (
            f"{own.message} Another run was on this machine meanwhile: cells of both can tell each other what they see."
        )
        own = msgspec.structs.replace(own, verdict=Verdict.WARN, message=text, remedy=rule(own.rule).remedy)
    return [own, *hardware_findings(track.hardware, watch.gpus)]


def all_findings(
    context: RunContext, record: RunRecord, final: Evaluation, *, val_bytes: int, left_out: list[str]
) -> list[Finding]:
    """Every finding of a refereed run but those on its data and machine; ``record`` holds all else by now.

    left_out: words for each pass for comparison that failed
    """
    degenerate = final.keeper.degenerate() if final.keeper else ""
    floor_bpb = context.track.audit.floor_bpb
    audited = audit_findings(record.audits, bpb=final.score.bpb, floor_bpb=floor_bpb, degenerate=degenerate)
    without_packed = bool(left_out) and all(score.stage != "packed" for score in record.scores)
    in_order = "every answer came in order, in shape and in time."
    return [
        *clock_findings(context, record.spans, record.budgets, record.scores),
        judge_sizes(record.sizes),
        Finding("A3-CONTAINER", Verdict.PASS, "a sound container without pickles, archives, binaries or source."),
        closure_finding(context, record.readable),
        *cell_findings(context),
        *isolation_findings(context),
        *score_findings(final.score, final.precision, val_targets=record.data.val_targets, val_bytes=val_bytes),
        Finding("S3-PROTOCOL", Verdict.WARN if left_out else Verdict.PASS, " ".join(left_out) or in_order),
        *(causal_finding(found, context.resumes, without_packed=without_packed) for found in audited),
    ]
