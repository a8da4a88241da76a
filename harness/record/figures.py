"""Arithmetic of one record: everything that follows from its own raw figures is computed again [R4-ARITHMETIC].

What is covered: bpb from nats and bytes, sums of bytes, spans against budgets, budgets and sizes against limits,
coverage, audits against their tolerance, verdicts against figures, digests that stand in two places, and the limits
against the track of that name. What is not: whether the raw figures were measured honestly. That is what the
signature, a second scoring of the artifact and a rerun are for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache

from harness.config.tracks import Hardware, Track, load_track, track_names
from harness.errors import UsageError
from harness.record.canonical import HEX64, canonical_digest, parse_utc
from harness.record.predicate import AuditResult, BudgetEntry, RunRecord, Score
from harness.rules import Finding, Verdict, rule

RELATIVE = 1e-12
SPAN_SLACK_S = 1e-6
CLOCK_RULES = {"train": "A1-TRAIN-CLOCK", "eval": "A2-EVAL-CLOCK"}
TOLERATED_TRAIN_S = 0.2


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """bpb = nats / (ln 2 · bytes) [A7-BPB]. Raises ``ValueError`` unless bytes >= 1 and nats is finite and >= 0.

    >>> bits_per_byte(8 * math.log(2), 8)
    1.0
    """
    if n_bytes < 1 or not math.isfinite(nats) or nats < 0:
        raise ValueError(f"no bpb from {nats} nats over {n_bytes:,} bytes")
    return nats / (math.log(2) * n_bytes)


def check_figures(record: RunRecord) -> list[Finding]:
    """Everything in a record that does not follow from its raw figures; one passing R4-ARITHMETIC when all does."""
    problems = list(_arithmetic(record))
    return problems or [Finding("R4-ARITHMETIC", Verdict.PASS, "derived figures and verdicts follow from the raw ones")]


def check_run(record: RunRecord) -> list[Finding]:
    """What speaks against the run itself: rules that its figures break, and its own verdicts other than a pass."""
    broken = _broken_rules(record)
    rules = {finding.rule for finding in broken}
    return broken + [f for f in record.findings if f.verdict is not Verdict.PASS and f.rule not in rules]


def _broken_rules(record: RunRecord) -> list[Finding]:
    return [*_limits(record), *_coverage(record), *_isolation(record)]


def _arithmetic(record: RunRecord) -> Iterator[Finding]:
    checks = (_scores, _running, _sizes, _spans, _audits, _verdicts, _digests)
    for message in (message for check in checks for message in check(record)):
        yield Finding("R4-ARITHMETIC", Verdict.FAIL, message)


def _scores(record: RunRecord) -> Iterator[str]:
    stages = Counter(score.stage for score in record.scores)
    if stages["final"] != 1 or max(stages.values()) > 1:
        yield f"stages scored are {dict(stages)}; wanted one score a stage, and a final one"
    for score in record.scores:
        try:
            bpb = bits_per_byte(score.nats, score.bytes)
        except ValueError as error:
            yield f"score {score.stage}: {error}"
            continue
        if not math.isclose(bpb, score.bpb, rel_tol=RELATIVE, abs_tol=0.0):
            yield (
                f"score {score.stage}: bpb is given as {score.bpb!r}; {score.nats!r} nats over {score.bytes:,} bytes "
                f"give {bpb!r}"
            )


def final_score(record: RunRecord) -> Score | None:
    """The score that counts, or ``None`` when the record holds none."""
    return next((score for score in record.scores if score.stage == "final"), None)


def _running(record: RunRecord) -> Iterator[str]:
    for name, points in (("running_bpb", record.running_bpb), ("loss_curve", record.loss_curve)):
        places = [place for place, _ in points]
        if places != sorted(set(places)):
            yield f"{name} does not run forward"
    final = final_score(record)
    if final and record.running_bpb:
        place, value = record.running_bpb[-1]
        if place != final.targets or not math.isclose(value, final.bpb, rel_tol=1e-9):
            yield (
                f"running_bpb ends at {value!r} after {place:,} targets; the final score is {final.bpb!r} "
                f"after {final.targets:,}"
            )


def _sizes(record: RunRecord) -> Iterator[str]:
    sizes = record.sizes
    if min(sizes.code_bytes, sizes.model_bytes, sizes.total_bytes, sizes.cap_bytes) < 0:
        yield "a size is negative"
    if sizes.code_bytes + sizes.model_bytes != sizes.total_bytes:
        yield (
            f"total is given as {sizes.total_bytes:,} bytes; code {sizes.code_bytes:,} + model {sizes.model_bytes:,} "
            f"give {sizes.code_bytes + sizes.model_bytes:,}"
        )


def _spans(record: RunRecord) -> Iterator[str]:
    for span in record.spans:
        if span.seconds < 0 or span.start_s < 0:
            yield f"span {span.name} has a negative time"
    budgets = Counter(budget.name for budget in record.budgets)
    for name in {span.budget for span in record.spans if span.budget} - set(budgets):
        yield f"spans count in the budget {name!r}, which the record does not state"
    for budget in record.budgets:
        used = math.fsum(span.seconds for span in record.spans if span.budget == budget.name)
        if budgets[budget.name] > 1:
            yield f"budget {budget.name} stands twice"
        if abs(used - budget.used_s) > SPAN_SLACK_S:
            yield f"budget {budget.name} is given as {budget.used_s!r} s used; its spans sum to {used!r} s"


def _audits(record: RunRecord) -> Iterator[str]:
    verdicts = {finding.rule: finding.verdict for finding in record.findings}
    for audit in record.audits:
        if audit.verdict == Verdict.PASS and not _within(audit):
            yield (
                f"audit {audit.name} passed with a worst difference of {audit.worst_nats!r} nats over its tolerance "
                f"of {audit.tolerance_nats!r}"
            )
        if audit.verdict == Verdict.FAIL and verdicts.get(audit.rule) == Verdict.PASS:
            yield f"audit {audit.name} failed, but {audit.rule} is given as PASS"


def _within(audit: AuditResult) -> bool:
    return audit.k >= 0 and 0 <= audit.worst_nats <= audit.tolerance_nats


def _verdicts(record: RunRecord) -> Iterator[str]:
    given = {finding.rule: finding.verdict for finding in record.findings}
    broken = {finding.rule: finding.message for finding in _broken_rules(record)}
    for rule_id, message in broken.items():
        if given.get(rule_id) != Verdict.FAIL:
            yield f"{rule_id} is given as {given.get(rule_id, 'no verdict')}, but {message}"
    if given.get("A3-ARTIFACT-BYTES") == Verdict.FAIL and "A3-ARTIFACT-BYTES" not in broken:
        yield "A3-ARTIFACT-BYTES is given as FAIL, but the artifact is within the cap"


def _digests(record: RunRecord) -> Iterator[str]:
    try:
        parse_utc(record.started_at)
    except ValueError as error:
        yield f"started_at: {error}"
    digests = {
        "artifact_digest": record.artifact_digest,
        "submission.code_digest": record.submission.code_digest,
        "intent": record.intent,
        "track.digest": record.track.digest,
        **{f"data.files[{name}]": digest for name, digest in record.data.files.items()},
    }
    for name, digest in digests.items():
        if not HEX64.fullmatch(digest):
            yield f"{name} is {digest!r}; wanted a SHA-256 in hex"
    config = canonical_digest(record.submission.config)
    if config != record.submission.config_digest:
        yield f"config_digest is {record.submission.config_digest[:16]}…; the configuration gives {config[:16]}…"


def over_limit(record: RunRecord, budget: BudgetEntry) -> bool:
    """Whether a budget is overdrawn under the record's own reading of the clock rule."""
    tolerant = budget.name == "train" and record.track.readings.get("train_clock") == "tolerate_200ms"
    return budget.used_s > budget.limit_s + (TOLERATED_TRAIN_S if tolerant else 0.0)


def _limits(record: RunRecord) -> Iterator[Finding]:
    sizes = record.sizes
    if sizes.total_bytes > sizes.cap_bytes:
        yield _broken(
            "A3-ARTIFACT-BYTES",
            f"artifact is {sizes.total_bytes:,} bytes, cap {sizes.cap_bytes:,} "
            f"({sizes.total_bytes - sizes.cap_bytes:,} over); model {sizes.model_bytes:,} + code {sizes.code_bytes:,}",
        )
    for budget in record.budgets:
        if over_limit(record, budget):
            yield _broken(
                CLOCK_RULES.get(budget.name, "A2-EVAL-CLOCK"),
                f"budget {budget.name} used {budget.used_s:.3f} s, limit {budget.limit_s:.1f} s",
            )


def _coverage(record: RunRecord) -> Iterator[Finding]:
    final = final_score(record)
    if final is None:
        return
    if not final.whole_set or final.targets != record.data.val_targets:
        yield _broken("C4-COVERAGE", f"the final stage scored {final.targets:,} targets of {record.data.val_targets:,}")
    if final.whole_set and final.bytes != record.data.val_bytes:
        yield _broken(
            "A7-BYTES",
            f"the final score is over {final.bytes:,} bytes; the documents have {record.data.val_bytes:,}",
        )


def _isolation(record: RunRecord) -> Iterator[Finding]:
    missing = sorted(name for name, state in record.isolation.items() if not state.startswith("in force"))
    if record.track.official and missing:
        yield _broken("S1-ISOLATION", f"official track without the isolation layers {', '.join(missing)}")


def _broken(rule_id: str, message: str) -> Finding:
    return Finding(rule_id, Verdict.FAIL, message, remedy=rule(rule_id).remedy)


@cache
def _shipped(name: str) -> Track | None:
    try:
        return load_track(name) if name in track_names() else None
    except UsageError:
        return None


def _claimed_hardware(record: RunRecord, hardware: Hardware) -> str:
    """What a record of other GPUs than the track's says of them, unless it warns of it or says that it broke a rule."""
    fitting = hardware.fitting(record.machine.gpus)
    given = {finding.verdict for finding in record.findings if finding.rule == "A1-HARDWARE"}
    if not hardware.gpu_model or fitting >= hardware.gpus or given & {Verdict.WARN, Verdict.FAIL}:
        return ""
    return f"a machine with {fitting} GPUs of the model {hardware.gpu_model} without a warning of A1-HARDWARE"


def check_track(record: RunRecord) -> list[Finding]:
    """The record's limits against the track of that name as shipped now: WARN when the track changed since."""
    track = _shipped(record.track.name)
    if track is None:
        return [Finding("R4-ARITHMETIC", Verdict.WARN, f"track {record.track.name!r} is not shipped with this version")]
    if track.digest != record.track.digest:
        message = f"track {track.name} has changed since (then {record.track.digest[:12]}, now {track.digest[:12]})"
        return [Finding("R4-ARITHMETIC", Verdict.WARN, message + "; its limits are those of the record")]
    limits = {"train": track.limits.train_s, "eval": track.limits.eval_s}
    wrong = [f"budget {b.name} limit {b.limit_s}" for b in record.budgets if limits.get(b.name, b.limit_s) != b.limit_s]
    wrong += [f"budget {name} is not stated" for name in limits if name not in {b.name for b in record.budgets}]
    if record.sizes.cap_bytes != track.limits.artifact_bytes:
        wrong.append(f"cap {record.sizes.cap_bytes:,} bytes")
    if record.track.official != track.official:
        wrong.append(f"official {record.track.official}")
    if track.official and (claim := _claimed_hardware(record, track.hardware)):
        wrong.append(claim)
    found = [Finding("R4-ARITHMETIC", Verdict.FAIL, f"{text} is not what track {track.name} says") for text in wrong]
    if record.data.name != track.dataset:
        message = f"data set {record.data.name} instead of the track's {track.dataset}: not comparable with the track"
        found.append(Finding("R4-ARITHMETIC", Verdict.WARN, message))
    return found
