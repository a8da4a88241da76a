"""Figures that don't follow from each other are caught, even under a good signature."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from record_samples import digest_of, make_artifact, make_findings, make_record, make_score

import harness
from harness.config.tracks import load_track
from harness.record.arithmetic import (
    MEASURED,
    REQUIRED_RULES,
    check_figures,
    check_names,
    check_run,
    current_digest,
    known,
)
from harness.record.predicate import AuditResult, BudgetEntry, RunRecord, SpanEntry, TrackInfo, Training, mean_tolerance
from harness.rules import Finding, Verdict
from harness.run.verdicts import clock_findings
from harness.units import bits_per_byte

replace = msgspec.structs.replace


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return make_record(make_artifact(tmp_path, 1), 1, intent=digest_of("intent"))


def problems(record: RunRecord) -> list[tuple[str, str]]:
    return [
        (f.rule, f.message)
        for f in [*check_figures(record), *check_names(record), *check_run(record)]
        if f.verdict is Verdict.FAIL
    ]


def test_an_honest_record_has_no_problem(record: RunRecord):
    assert problems(record) == []
    assert [(f.rule, f.verdict) for f in check_figures(record)] == [("R4-ARITHMETIC", Verdict.PASS)]


def test_a_run_that_went_on_after_packaging_is_no_second_try(record: RunRecord):
    """And set-up may take all of its time."""
    told, full = "2026-11-24T17:09:00Z, in the packaging or evaluation: x", SpanEntry("setup", 0.0, 300.4, 300.0, "")
    assert problems(replace(record, resumes=[told], spans=[full, *record.spans[1:]])) == []


def test_bpb_is_nats_over_ln2_and_bytes():
    assert bits_per_byte(9000 * math.log(2), 9000) == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize(("nats", "n_bytes"), [(1.0, 0), (-1.0, 5), (float("nan"), 5), (float("inf"), 5)])
def test_bpb_of_nothing_is_refused(nats, n_bytes):
    with pytest.raises(ValueError, match="no bpb"):
        bits_per_byte(nats, n_bytes)


def scores(record: RunRecord, **changes):
    return [*record.scores[:2], replace(record.scores[2], **changes)]


def audited(record: RunRecord, verdict: str):
    return {"audits": [AuditResult("a", "C1-CAUSAL", verdict, 64, 0.5, 1e-4, "", ""), *record.audits[1:]]}


ARITHMETIC = {
    "bpb": (lambda r: {"scores": scores(r, bpb=r.scores[2].bpb * (1 + 1e-9))}, "bpb is given as"),
    "no-bytes": (lambda r: {"scores": scores(r, bytes=0)}, "no bpb from"),
    "no-final": (lambda r: {"scores": r.scores[:2], "running_bpb": []}, "wanted one score a stage"),
    "two-finals": (lambda r: {"scores": [*r.scores, r.scores[2]]}, "wanted one score a stage"),
    "running-backwards": (lambda r: {"running_bpb": r.running_bpb[::-1]}, "does not run forward"),
    "running-end": (lambda r: {"running_bpb": [(4000, 1.0)]}, "running_bpb ends at"),
    "frozen-end": (lambda r: {"frozen_bpb": [(4000, 1.0)]}, "frozen_bpb ends at"),
    "total": (lambda r: {"sizes": replace(r.sizes, total_bytes=5)}, "total is given as 5 bytes"),
    "budget-sum": (lambda r: {"budgets": [BudgetEntry("train", 60.0, 90.0), r.budgets[1]]}, "its spans sum to 88.25"),
    "span-uncounted": (
        lambda r: {"spans": [replace(s, budget="") if s.name == "train" else s for s in r.spans]},
        "span train counts in 'no budget', not in its own",
    ),
    "package-uncounted": (
        lambda r: {
            "spans": [replace(s, budget="") if s.name == "package" else s for s in r.spans],
            "budgets": [r.budgets[0], replace(r.budgets[1], used_s=30.125)],
        },
        "span package counts in 'no budget', not in its own",
    ),
    "budget-unstated": (lambda r: {"budgets": r.budgets[1:]}, "budget 'train', which the record does not state"),
    "budget-twice": (lambda r: {"budgets": [*r.budgets, r.budgets[0]]}, "appears twice"),
    "audit": (lambda r: audited(r, "PASS"), "over its tolerance"),
    "audit-hidden": (lambda r: audited(r, "FAIL"), "audit a failed, but C1-CAUSAL is given as PASS"),
    "audit-undone": (lambda r: audited(r, "ERROR"), "audit a could not be done, but C1-CAUSAL is given as PASS"),
    "config": (lambda r: {"submission": replace(r.submission, config={"NUM_LAYERS": 5})}, "the configuration gives"),
    "config-too-large": (
        lambda r: {"submission": replace(r.submission, config={"NUM_LAYERS": 2**60})},
        "submission.config: no canonical JSON form",
    ),
    "track-limit": (lambda r: {"budgets": [BudgetEntry("train", 88.25, 600.0), r.budgets[1]]}, "not what track smoke"),
    "track-readings": (
        lambda r: {"track": replace(r.track, readings={**r.track.readings, "train_clock": "tolerate_200ms"})},
        "is not what track smoke",
    ),
    "track-other": (lambda r: {"track": replace(r.track, digest=digest_of("9,000 s"))}, "these are other terms"),
    "text-other": (lambda r: {"data": replace(r.data, fingerprint=digest_of("mine"))}, "is another text than the one"),
    "text-longer": (lambda r: {"data": replace(r.data, val_bytes=18_000)}, "18,000 bytes is another text"),
    "track-own-budget": (
        lambda r: {
            "spans": [*r.spans, SpanEntry("training", 130.0, 5000.0, None, "free")],
            "budgets": [*r.budgets, BudgetEntry("free", 5000.0, 1e9)],
        },
        "budget free limit 1000000000.0 is not what track smoke",
    ),
    "track-setup": (
        lambda r: {"spans": [SpanEntry("setup", 0.0, 9000.0, 9000.0, ""), *r.spans[1:]]},
        "span setup of 9000.0 s, limit 9000.0, is not what track smoke",
    ),
    "track-warmup": (
        lambda r: {"spans": [*r.spans, SpanEntry("warmup compile", 130.0, 7000.0, None, "")]},
        "span warmup compile of 7000.0 s",
    ),
    "layers": (lambda r: {"isolation": r.isolation | {"landlock": "missing: x"}}, "S1-ISOLATION is given as PASS"),
    "resumed": (
        lambda r: {"resumes": ["2026-11-24T17:09:00Z, in the audits: x, in the packaging or evaluation: y"]},
        "C1-CAUSAL is given as PASS, but in 1",
    ),
    "floor": (
        lambda r: {"scores": [make_score("final", 500.0)], "running_bpb": []},
        "S6-PLAUSIBLE is given as PASS, but 0.0801 bpb",
    ),
    "busy": (
        lambda r: {"conditions": replace(r.conditions, foreign_cpu_share=0.4, gpu_shared=True)},
        "S7-OWN-MACHINE is given as PASS, but other processes took 40.0%",
    ),
    "no-packed": (lambda r: {"scores": [r.scores[0], r.scores[2]]}, "no row was drawn against the packed model"),
    "track-cap": (lambda r: {"sizes": replace(r.sizes, cap_bytes=2_000_000)}, "cap 2,000,000 bytes is not what track"),
}


FORM = {
    "sizes.code_bytes": lambda r: {"sizes": replace(r.sizes, code_bytes=-1)},
    "spans[0].seconds": lambda r: {"spans": [SpanEntry("x", 0, -1.0, None, ""), *r.spans]},
    "audits[0].verdict": lambda r: audited(r, "fine"),
    "artifact_digest": lambda r: {"artifact_digest": "abc"},
}


@pytest.mark.rule("R2-SCHEMA")
@pytest.mark.parametrize("place", FORM)
def test_a_size_a_time_a_word_and_a_digest_have_their_form(record: RunRecord, place: str):
    assert msgspec.convert(msgspec.to_builtins(record), RunRecord) == record
    with pytest.raises(msgspec.ValidationError, match=re.escape(f"$.{place}")):
        msgspec.convert(msgspec.to_builtins(replace(record, **FORM[place](record))), RunRecord)


def test_a_track_that_changed_since_is_a_warning(record: RunRecord):
    former = next(digest for digest in known().tracks["smoke"] if digest != current_digest("smoke"))
    then = known().tracks["smoke"][former]
    limits = {"train": then.train_s, "eval": then.eval_s}
    budgets = [replace(budget, limit_s=limits.get(budget.name, budget.limit_s)) for budget in record.budgets]
    (found,) = check_names(replace(record, track=replace(record.track, digest=former), budgets=budgets))
    assert found.verdict is Verdict.WARN
    assert "has changed since" in found.message
    (found,) = check_names(replace(record, track=replace(record.track, name="gone")))
    assert "not shipped" in found.message


def test_another_data_set_than_the_tracks_is_a_warning(record: RunRecord):
    (found,) = check_names(replace(record, data=replace(record.data, name="other")))
    assert found.verdict is Verdict.WARN
    assert "not comparable" in found.message


@pytest.mark.parametrize("track", ["one_gpu_120s", "10min_16mb"])
def test_the_sum_of_leaks_is_held_to_its_own_limit_and_a_text_that_is_not_pinned_is_named(record: RunRecord, track):
    now = load_track(track)
    info, plan = TrackInfo(track, now.digest, now.official, msgspec.to_builtins(now.readings)), now.audit
    fields = {"tolerance_nats": 0.02, "worst_nats": 0.019, "k": 2000, "bound_nats": plan.escape_nats}
    lax = replace(record, track=info, audits=[replace(audit, **fields) for audit in record.audits])
    most = mean_tolerance(plan.tolerance_nats, plan.escape_nats)
    held = [replace(a, worst_nats=0.0, tolerance_nats=most) if "sum" in a.name else a for a in lax.audits]
    said = [str(problems(replace(lax, audits=audits))) for audits in (lax.audits, held)]
    assert [f"'sum of all leaks' of 1 positions or more within {most:g}" in text for text in said] == [True, False]
    assert "is not pinned" in str([*check_names(replace(lax, data=replace(record.data, name=now.dataset)))])


def test_what_a_record_says_against_its_own_run_is_passed_on(record: RunRecord):
    finding = Finding("C1-CAUSAL", Verdict.FAIL, "a leak")
    others = [other for other in record.findings if other.rule != "C1-CAUSAL"]
    assert check_run(replace(record, findings=[*others, finding])) == [finding]


INCOMPLETE = {
    "bound": (
        lambda r: {"audits": [replace(a, bound_nats=0.2 if a.bound_nats else None) for a in r.audits]},
        "that bounds leaks to 0.15 nats a token (here: 0.2, by 64 draws)",
    ),
    "bound-unstated": (
        lambda r: {"audits": [replace(a, bound_nats=None) for a in r.audits]},
        "that bounds leaks to 0.15 nats a token (here: inf, ",
    ),
    "too-few-draws": (
        lambda r: {"audits": [r.audits[0], *(replace(a, k=1) for a in r.audits[1:])]},
        "leaks to 0.15 nats a token (here: 0.11, by 1 draws)",
    ),
    "no-curve": (lambda r: {"running_bpb": []}, "leaves out running_bpb"),
    "no-findings": (lambda r: {"findings": []}, "no verdict on A1-SETUP-NO-DATA, A1-TRAIN-CLOCK"),
    "one-left-out": (lambda r: {"findings": make_findings(S6_PLAUSIBLE="")}, "no verdict on S6-PLAUSIBLE"),
    "left-open": (lambda r: {"findings": make_findings(C1_CAUSAL="UNKNOWN")}, "no verdict on C1-CAUSAL"),
    "no-audits": (lambda r: {"audits": []}, "has no audit of C1-CAUSAL"),
    "one-audit-less": (lambda r: {"audits": r.audits[:2]}, "has no audit of S5-DETERMINISM"),
    "no-audit-by-gain": (lambda r: {"audits": [r.audits[0], *r.audits[2:]]}, "no audit of C1-CAUSAL called 'costly"),
    "no-positions": (lambda r: {"audits": [*r.audits[:4], replace(r.audits[4], k=0)]}, "S5-DETERMINISM passed without"),
    "few-positions": (
        lambda r: {"audits": [replace(a, k=8) for a in r.audits]},
        "passed without an audit 'causality' of 32 positions",
    ),
    "lax": (lambda r: {"audits": [replace(a, tolerance_nats=1.0) for a in r.audits]}, "or more within 0.0001 nats"),
    "no-spans": (lambda r: {"spans": []}, "no span called eval, train"),
    "no-layers": (lambda r: {"isolation": {}}, "what became of the layers descriptors, environment, guarded"),
    "one-layer": (lambda r: {"isolation": {"rlimits": "in force"}}, "of the layers descriptors, environment, guarded"),
    "self-reported-mute": (lambda r: {"kind": "self-reported", "findings": []}, "has to say so of A7-BPB, C1-CAUSAL"),
    "self-reported-pass": (lambda r: {"kind": "self-reported"}, "a script that scored itself can't pass A1-SETUP"),
}


def late(record: RunRecord, name: str, by: float):
    """One clocked span, and the budget that it counts in, over the limit."""
    limits = {budget.name: budget.limit_s for budget in record.budgets}
    spans = [replace(s, seconds=limits[name] + by) if s.name == name else s for s in record.spans]
    used = {budget: sum(s.seconds for s in spans if s.budget == budget) for budget in limits}
    return {"spans": spans, "budgets": [BudgetEntry(budget, used[budget], limits[budget]) for budget in limits]}


OVER = {
    "cap": (
        "A3-ARTIFACT-BYTES",
        lambda r: {"sizes": replace(r.sizes, model_bytes=10**6, total_bytes=10**6 + r.sizes.code_bytes)},
        " over); model 1,000,000 + code",
    ),
    "train": ("A1-TRAIN-CLOCK", lambda r: late(r, "train", 0.1), "used 90.100 s, limit 90.0 s"),
    "eval": ("A2-EVAL-CLOCK", lambda r: late(r, "eval", 1.0), "budget eval used"),
    "tail": ("C4-COVERAGE", lambda r: {"scores": scores(r, targets=3990)}, "scored 3,990 targets of 4,000"),
    "denominator": (
        "A7-BYTES",
        lambda r: {"scores": scores(r, bytes=9001)},
        "over 9,001 bytes; the documents have 9,000",
    ),
    "isolation": (
        "S1-ISOLATION",
        lambda r: {"track": replace(r.track, official=True), "isolation": {"landlock": "missing: old kernel"}},
        "without the isolation layers landlock",
    ),
}
CASES = {f"R4-{name}": ("R4-ARITHMETIC", *case) for name, case in ARITHMETIC.items()}
CASES |= {f"R7-{name}": ("R7-COMPLETE", *case) for name, case in INCOMPLETE.items()} | OVER


@pytest.mark.parametrize(
    ("rule", "change", "message"),
    [pytest.param(*case, id=name, marks=pytest.mark.rule(case[0])) for name, case in CASES.items()],
)
def test_what_does_not_follow_or_is_left_out_or_over_a_limit_is_caught(record: RunRecord, rule, change, message):
    found = problems(replace(record, **change(record)))
    assert any((rule, message in text) == (broken, True) for broken, text in found), found
    if rule in {rule for rule, *_ in OVER.values()}:
        assert any(f"{rule} is given as PASS, but " in text for _, text in found)


@pytest.mark.rule("A1-TRAIN-CLOCK")
def test_a_track_may_tolerate_a_training_a_little_over_the_clock(record: RunRecord):
    tolerant = replace(record, track=replace(record.track, readings={"train_clock": "tolerate_200ms"}))
    for by, broken in ((0.1, False), (0.3, True)):
        assert ("A1-TRAIN-CLOCK" in dict(problems(replace(tolerant, **late(record, "train", by))))) is broken


def test_a_script_that_leaves_its_score_open_passes_and_a_failed_audit_needs_no_positions(record: RunRecord):
    still_open = make_findings(**{rule.replace("-", "_"): "UNKNOWN" for rule in REQUIRED_RULES - MEASURED})
    assert problems(replace(record, kind="self-reported", findings=still_open, audits=[])) == []
    lost = [replace(audit, verdict="ERROR", k=0) for audit in record.audits]
    warned, busy = make_findings(C1_CAUSAL="WARN", S7_OWN_MACHINE="WARN"), replace(record.conditions, gpu_shared=True)
    assert problems(replace(record, findings=warned, conditions=busy, scores=record.scores[::2])) == []
    honest = make_findings(C1_CAUSAL="ERROR", S4_STATE_DECLARED="ERROR", S5_DETERMINISM="ERROR")
    assert problems(replace(record, findings=honest, audits=lost)) == []


def test_a_record_of_version_1_lacks_what_came_later_and_nothing_else(record: RunRecord):
    layers = {name: state for name, state in record.isolation.items() if name != "guarded"}
    first = {"audits": [record.audits[0], *record.audits[3:]], "isolation": layers}
    assert problems(replace(record, provenance=None, **first)) == []
    assert {rule for rule, _ in problems(replace(record, **first))} == {"R7-COMPLETE"}


def test_a_rule_of_a_later_version_is_a_warning(record: RunRecord):
    newer = replace(record, findings=[*record.findings, Finding("Z9-NEWER", Verdict.PASS, "of tomorrow")])
    assert [(f.verdict, "'Z9-NEWER'" in f.message) for f in check_run(newer)] == [(Verdict.WARN, True)]


@pytest.mark.rule("A1-TRAIN-CLOCK")
@pytest.mark.parametrize(
    ("ended", "verdict", "caught"), [("clock", "PASS", True), ("clock", "WARN", False), ("complete", "PASS", False)]
)
def test_a_training_that_the_clock_cut_short_is_no_pass(record: RunRecord, ended: str, verdict: str, caught: bool):
    cut = replace(record, training=Training(78, ended), findings=make_findings(A1_TRAIN_CLOCK=verdict))
    assert any("the clock cut training short after 78 steps" in text for _, text in problems(cut)) is caught


@pytest.mark.parametrize(("ended", "verdict"), [("clock", "WARN"), ("complete", "PASS")])
def test_the_referee_says_that_the_clock_cut_training_short(ended: str, verdict: str):
    context = SimpleNamespace(track=load_track("smoke"), training=Training(78, ended))
    spans, budgets = [SpanEntry("train", 0.0, 60.0, 90.0, "train")], [BudgetEntry("train", 60.0, 90.0)]
    (found,) = clock_findings(context, spans, budgets, [])
    assert (found.verdict, "cut training short after 78 steps" in found.message) == (verdict, ended == "clock")


@pytest.mark.rule("A1-TRAIN-CLOCK")
@pytest.mark.parametrize(("seconds", "budget", "said"), [(100.0, "eval", 1), (41.0, "eval", 0), (100.0, "train", 0)])
def test_training_that_goes_on_while_packaging_is_named(seconds: float, budget: str, said: bool):
    """On text that the checkpoint carries: 2.00 -> 1.64 bpb. The reading that adds both warns of honest runs, too."""
    context = SimpleNamespace(track=load_track("smoke"), training=None)
    train = SpanEntry("train", 0.0, 60.0, 90.0, "train")
    spans, budgets = [train, SpanEntry("package", 60.0, seconds, 300.0, budget)], [BudgetEntry("train", 60.0, 90.0)]
    (found,) = clock_findings(context, spans, budgets, [])
    assert (found.verdict, "a checkpoint can carry training text" in found.message) == ("WARN", said)


@pytest.mark.rule("A1-TRAIN-CLOCK")
@pytest.mark.parametrize(
    ("packed", "budget", "verdict"), [(1.58, "eval", "WARN"), (1.61, "eval", "PASS"), (1.58, "train", "PASS")]
)
def test_a_packed_model_better_than_its_checkpoint_is_no_pass(packed: float, budget: str, verdict: str):
    context = SimpleNamespace(track=load_track("smoke"), training=None)
    spans = [SpanEntry("train", 0.0, 40.0, 90.0, "train"), SpanEntry("package", 40.0, 20.0, 300.0, budget)]
    scores = [SimpleNamespace(stage="float", bpb=1.6), SimpleNamespace(stage="packed", bpb=packed)]
    (found,) = clock_findings(context, spans, [BudgetEntry("train", 40.0, 90.0)], scores)
    assert (found.verdict, "0.0200 bpb better than the checkpoint" in found.message) == (verdict, verdict == "WARN")


SXM, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"


@pytest.mark.rule("A1-HARDWARE")
@pytest.mark.parametrize(
    ("gpus", "findings", "broken"),
    [
        ([SXM] * 8, ["PASS"], False),
        ([SXM] * 8 + [H200], ["PASS"], False),
        ([H200] * 8, ["WARN"], False),
        ([H200] * 8, ["PASS"], True),
        ([H200] * 8, [], True),
        ([SXM] * 4, ["PASS"], True),
        ([], [], True),
    ],
)
def test_a_record_that_passes_on_other_gpus_does_not_verify(
    tmp_path: Path, gpus: list[str], findings: list[str], broken: bool
):
    track = load_track("10min_16mb")
    record = make_record(
        make_artifact(tmp_path, 1),
        1,
        track=TrackInfo(track.name, track.digest, True, msgspec.to_builtins(track.readings)),
        findings=[Finding("A1-HARDWARE", Verdict(word), "made up") for word in findings],
    )
    record = replace(record, machine=replace(record.machine, gpus=[f"{gpu}, 81559 MiB" for gpu in gpus]))
    messages = [f.message for f in check_names(record) if f.verdict is Verdict.FAIL]
    assert any("without a warning of A1-HARDWARE" in message for message in messages) is broken


def test_a_run_that_began_after_the_deadline_of_its_track_fails(record, tmp_path, monkeypatch):
    smoke = (Path(harness.__file__).parent / "tracks" / "smoke.toml").read_text()
    monkeypatch.setenv("GOLF_TRACKS_DIR", str(tmp_path))
    for name, deadline, wanted in (("in-time", "17:00:00Z", 0), ("late", "16:59:59Z", 1)):
        text = smoke.replace('name = "smoke"', f'name = "{name}"\ndeadline = "2026-11-24T{deadline}"')
        (tmp_path / f"{name}.toml").write_text(text)
        track = replace(record.track, name=name, digest=load_track(name).digest)
        found = [message for _, message in problems(replace(record, track=track)) if "deadline" in message]
        assert len(found) == wanted
