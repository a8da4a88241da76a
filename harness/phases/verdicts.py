"""One finding a rule, from what the phases measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.artifact.count import judge_sizes
from harness.clock.readings import A1_TRAIN_CLOCK, A2_EVAL_CLOCK, read_clock
from harness.config.tracks import TRAIN_TOLERANCE_S, Hardware
from harness.phases.context import RunContext
from harness.phases.manifest import accepted_variables, settings_bytes
from harness.record.predicate import AuditResult, BudgetEntry, Score, Sizes, SpanEntry
from harness.rules import Finding, Verdict, rule
from harness.sandbox.cell import IN_FORCE
from harness.scoring.audit import audit_findings

A1_HARDWARE = "A1-HARDWARE"
FILE_LAYERS = ("landlock",)
NETWORK_LAYERS = ("network",)


def clock_findings(context: RunContext, spans: list[SpanEntry], budgets: list[BudgetEntry]) -> list[Finding]:
    """A1 and A2 from the ledger; a run that overran was killed, so this is where measured time meets its limit.

    The track's reading decides. One that keeps it but overruns a stricter published reading is a WARN.
    """
    tolerant = context.track.readings.train_clock == "tolerate_200ms"
    findings = []
    for budget in budgets:
        rule_id = A1_TRAIN_CLOCK if budget.name == "train" else A2_EVAL_CLOCK
        over = budget.used_s - budget.limit_s
        others = read_clock(rule_id, spans)
        tight = over > 0 or any(seconds > budget.limit_s for _, seconds in others)
        forgiven = budget.name == "train" and tolerant and over <= TRAIN_TOLERANCE_S
        training = context.training if budget.name == "train" else None
        cut_short = training is not None and training.ended == "clock"
        verdict = Verdict.FAIL if over > 0 and not forgiven else Verdict.WARN if tight or cut_short else Verdict.PASS
        shown = ", ".join(f"{reading.name} {seconds:.3f} s" for reading, seconds in others)
        text = f"{budget.used_s:.3f} s of {budget.limit_s:g} s{_reading(context, budget.name)}. By reading: {shown}."
        if training and cut_short:
            text += f" The clock cut training short after {training.steps:,} steps: another run may end elsewhere."
        findings.append(Finding(rule_id, verdict, text))
    return findings


def _reading(context: RunContext, budget: str) -> str:
    counted = context.track.readings.package_counts_in
    return ", packaging counted in it" if counted == budget else ""


def hardware_findings(hardware: Hardware, gpus: Sequence[str]) -> list[Finding]:
    """A1-HARDWARE of a track that names a GPU model: WARN unless all GPUs of the run, by name, are of it."""
    if not hardware.gpu_model:
        return []
    counted = Counter(gpus)
    shown = ", ".join(f"{count}× {name}" for name, count in counted.items()) or "no GPU that nvidia-smi names"
    wanted = f"{hardware.gpus}× {hardware.gpu_model}"
    if len(gpus) == hardware.fitting(gpus) == hardware.gpus:
        return [Finding(A1_HARDWARE, Verdict.PASS, f"{shown}.")]
    text = f"ran on {shown}; the track is for {wanted}: its times don't compare with the track's."
    return [Finding(A1_HARDWARE, Verdict.WARN, text, found=shown, wanted=wanted, remedy=rule(A1_HARDWARE).remedy)]


def isolation_findings(context: RunContext) -> list[Finding]:
    """S1, S2 and the rules that the sandbox enforces by construction, as far as its layers were in force."""
    missing = sorted(layer for layer, state in context.isolation.items() if not state.startswith(IN_FORCE))
    in_force = sorted(layer for layer, state in context.isolation.items() if state.startswith(IN_FORCE))
    survivors = sum(report.survivors for _, report in context.kills)
    stop_ms = max((report.stop_ms for _, report in context.kills), default=0.0)
    gone_ms = max((report.overshoot_ns for _, report in context.kills), default=0) / 1e6
    files = not set(missing) & set(FILE_LAYERS)
    network = bool(set(in_force) & set(NETWORK_LAYERS))
    return [
        Finding(
            "S1-ISOLATION",
            Verdict.WARN if missing else Verdict.PASS,
            f"missing: {', '.join(missing)}." if missing else f"in force: {', '.join(in_force)}.",
        ),
        Finding(
            "S2-NO-SURVIVORS",
            Verdict.FAIL if survivors else Verdict.PASS,
            f"{survivors} processes outlived {len(context.kills)} cells; "
            f"slowest stop {stop_ms:.0f} ms, all gone after {gone_ms:.0f} ms.",
        ),
        _held("A1-SETUP-NO-DATA", files, "shards are opened by the referee after READY of every rank."),
        _held("A4-TRAIN-NO-VAL", files, "no validation file is readable in training."),
        _held("A4-EVAL-NO-DATA", files, "packaging and evaluation can open no data file."),
        _held("A4-NO-NETWORK", network, "no network in packaging and evaluation."),
    ]


def _held(rule_id: str, enforced: bool, text: str) -> Finding:
    if enforced:
        return Finding(rule_id, Verdict.PASS, text)
    return Finding(rule_id, Verdict.WARN, f"a layer that enforces it is missing here; {text}")


def score_findings(score: Score, *, val_targets: int, val_bytes: int) -> list[Finding]:
    """What holds by construction of the loop, with the counts that prove it, and the two byte rules."""
    whole = score.targets == val_targets
    exact = score.bytes == val_bytes
    return [
        Finding("C2-NORMALISED", Verdict.PASS, "log-softmax over the whole vocabulary, float64, by the referee."),
        Finding("C3-SCORE-BEFORE-UPDATE", Verdict.PASS, "targets left the ledger only after their commit."),
        Finding("C4-SINGLE-PASS", Verdict.PASS, f"{score.targets:,} targets, one committed term each."),
        Finding(
            "C4-COVERAGE",
            Verdict.PASS if whole else Verdict.FAIL,
            f"{score.targets:,} of {val_targets:,} targets scored, the tail included.",
        ),
        Finding("A7-BPB", Verdict.PASS, f"{score.nats:.6f} nats over {score.bytes:,} raw bytes."),
        Finding(
            "A7-BYTES",
            Verdict.PASS if exact else Verdict.FAIL,
            f"the byte ledger sums to {score.bytes:,}, the documents hold {val_bytes:,}.",
        ),
    ]


def _closure_finding(context: RunContext) -> Finding:
    text = "evaluation ran from code.bundle and model.bin alone"
    if context.compile_cache_dir.is_dir():
        text += ", and a compile cache made from these two before any token was seen"
    if settings := accepted_variables(context.sealed.manifest, context.environ):
        text += f"; {settings_bytes(settings):,} bytes of variables were set: {', '.join(sorted(settings))}"
    return Finding("A3-NO-UNCOUNTED-CODE", Verdict.PASS, f"{text}.")


def all_findings(
    context: RunContext,
    *,
    spans: list[SpanEntry],
    budgets: list[BudgetEntry],
    sizes: Sizes,
    final: Score,
    audits: list[AuditResult],
    degenerate: str,
    disjoint: Finding,
    val_targets: int,
    val_bytes: int,
) -> list[Finding]:
    """Every finding of a refereed run, in the order of the rule catalogue."""
    findings = [
        *clock_findings(context, spans, budgets),
        judge_sizes(sizes),
        Finding("A3-CONTAINER", Verdict.PASS, "a sound container without pickles, archives, binaries or source."),
        _closure_finding(context),
        disjoint,
        *isolation_findings(context),
        *score_findings(final, val_targets=val_targets, val_bytes=val_bytes),
        Finding("S3-PROTOCOL", Verdict.PASS, "every answer came in order, in shape and in time."),
        *audit_findings(audits, bpb=final.bpb, floor_bpb=context.track.audit.floor_bpb, degenerate=degenerate),
    ]
    return sorted(findings, key=lambda finding: finding.rule)
