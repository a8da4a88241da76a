"""One record by itself: everything that follows from its own raw figures is computed again [R4-ARITHMETIC].

What is covered: bpb from nats and bytes, sums of bytes, spans against budgets, budgets and sizes against limits,
coverage, audits against their tolerance, verdicts against figures, digests that stand in two places, limits and text
against the track and the data set of that name, and whether all is there that the track asks for. What is not: whether
the raw figures were measured honestly. For that there are a second scoring of the artifact and a rerun.

``known.json`` lists the terms of every version of a track, and the text of every pinned data set. It grows and never
changes, so that a record of an earlier version of a track verifies under the terms of that time.
"""

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import msgspec

from harness.config.tracks import TRAIN_TOLERANCE_S, Track, load_track, track_names
from harness.record.canonical import canonical_digest
from harness.record.predicate import AUDITS, ESCAPE, RunRecord, mean_tolerance
from harness.rules import Finding, Verdict, catalogue, rule
from harness.sandbox.layers import Layer, LayerState
from harness.units import bits_per_byte

KNOWN_FILE = Path(__file__).with_name("known.json")
SPAN_SLACK_S = 1e-6
CLOCK_RULES = {"train": "A1-TRAIN-CLOCK", "eval": "A2-EVAL-CLOCK"}
# from version 2 on, like the layer of guarded folders
LATER_AUDITS = ("costly targets", "sum of all leaks")
LATER_FIELDS = ("conditions", "readable", "training", "running_bpb")
REQUIRED_RULES = {item.id for item in catalogue().values() if item.required}
# what the referee itself measures of a script that scores itself
MEASURED = {"A3-ARTIFACT-BYTES", "A4-DISJOINT", "A4-NO-NETWORK", "S1-ISOLATION", "S2-NO-SURVIVORS", "S7-OWN-MACHINE"}


def check_figures(record: RunRecord) -> list[Finding]:
    """Everything in a record that does not follow from its raw figures; one passing R4-ARITHMETIC when all does."""
    said = [*_derived_figures(record), *_verdicts_and_digests(record)]
    problems = [Finding("R4-ARITHMETIC", Verdict.FAIL, message) for message in said]
    return problems or [Finding("R4-ARITHMETIC", Verdict.PASS, "derived figures and verdicts follow from the raw ones")]


def check_run(record: RunRecord) -> list[Finding]:
    """What speaks against the run itself: what it left out, rules that its figures break, its own other verdicts."""
    broken = list(_broken_rules(record))
    rules = {finding.rule for finding in broken}
    own = [f for f in record.findings if f.verdict is not Verdict.PASS and f.rule not in rules]
    if unknown := [f.rule for f in record.findings if f.rule not in catalogue()]:
        text = f"names {', '.join(repr(name[:40]) for name in unknown[:5])}, which this version knows no rule for"
        own.append(Finding("R7-COMPLETE", Verdict.WARN, text))
    left_out = [_broken("R7-COMPLETE", text) for text in _left_out(record)]
    return [*left_out, *broken, *own]


def bpb_problem(nats: float, n_bytes: int, given: float) -> str:
    """Why ``given`` is not the bpb of so many nats over so many bytes; "" when it is."""
    try:
        bpb = bits_per_byte(nats, n_bytes)
    except ValueError as error:
        return str(error)
    if math.isclose(bpb, given, rel_tol=1e-12, abs_tol=0.0):
        return ""
    return f"bpb is given as {given!r}; {nats!r} nats over {n_bytes:,} bytes give {bpb!r}"


def _derived_figures(record: RunRecord) -> Iterator[str]:
    # 1. One score a stage, and the bpb of each from its nats and bytes.
    stages = Counter(score.stage for score in record.scores)
    if stages["final"] != 1 or max(stages.values()) > 1:
        yield f"stages scored are {dict(stages)}; wanted one score a stage, and a final one"
    for score in record.scores:
        if problem := bpb_problem(score.nats, score.bytes, score.bpb):
            yield f"score {score.stage}: {problem}"
    # 2. Curves run forward and end at the score that they lead to.
    packed = next((score for score in record.scores if score.stage == "packed"), None)
    curves = (
        ("running_bpb", record.running_bpb, record.final),
        ("frozen_bpb", record.frozen_bpb, packed),
        ("loss_curve", record.loss_curve, None),
    )
    for name, points, end in curves:
        places = [place for place, _ in points]
        if places != sorted(set(places)):
            yield f"{name} does not run forward"
        if end and points and not (places[-1] == end.targets and math.isclose(points[-1][1], end.bpb, rel_tol=1e-9)):
            other = f"the {end.stage} score is {end.bpb!r} after {end.targets:,}"
            yield f"{name} ends at {points[-1][1]!r} after {places[-1]:,} targets; {other}"
    # 3. Bytes add up.
    sizes = record.sizes
    if (both := sizes.code_bytes + sizes.model_bytes) != sizes.total_bytes:
        sum_of = f"code {sizes.code_bytes:,} + model {sizes.model_bytes:,} give {both:,}"
        yield f"total is given as {sizes.total_bytes:,} bytes; {sum_of}"
    # 4. Each budget is the sum of its spans, and no clocked span is left out of its own.
    packaging = record.track.readings.get("package_counts_in", "none")
    own = {"train": "train", "eval": "eval", "package": "" if packaging == "none" else packaging}
    for span in record.spans:
        if span.budget != own.get(span.name, span.budget):
            yield f"span {span.name} counts in {span.budget or 'no budget'!r}, not in its own"
    budgets = Counter(budget.name for budget in record.budgets)
    for name in {span.budget for span in record.spans if span.budget} - set(budgets):
        yield f"spans count in the budget {name!r}, which the record does not state"
    for budget in record.budgets:
        used = math.fsum(span.seconds for span in record.spans if span.budget == budget.name)
        if budgets[budget.name] > 1:
            yield f"budget {budget.name} appears twice"
        if abs(used - budget.used_s) > SPAN_SLACK_S:
            yield f"budget {budget.name} is given as {budget.used_s!r} s used; its spans sum to {used!r} s"


def _verdicts_and_digests(record: RunRecord) -> Iterator[str]:
    # 5. Audits against their tolerance, and the verdict of each rule against audits, limits and clock.
    given = {finding.rule: finding.verdict for finding in record.findings}
    for audit in record.audits:
        within = audit.k >= 0 and 0 <= audit.worst_nats <= audit.tolerance_nats
        if audit.verdict == Verdict.PASS and not within:
            worst = f"a worst difference of {audit.worst_nats!r} nats"
            yield f"audit {audit.name} passed with {worst} over its tolerance of {audit.tolerance_nats!r}"
        if audit.verdict == Verdict.FAIL and given.get(audit.rule) != Verdict.FAIL:
            yield f"audit {audit.name} failed, but {audit.rule} is given as {given.get(audit.rule, 'no verdict')}"
        if audit.verdict == Verdict.ERROR and given.get(audit.rule) == Verdict.PASS:
            yield f"audit {audit.name} could not be done, but {audit.rule} is given as PASS"
    broken = {finding.rule: finding.message for finding in _broken_rules(record)}
    terms, final, training = terms_for(record), record.final, record.training
    cut, floor = training is not None and training.ended == "clock", terms.floor_bpb if terms else 0.0
    seen = sum(not told.partition(", in the ")[2].startswith("packaging or eval") for told in record.resumes)
    unpacked = "no row was drawn against the packed model" * all(score.stage != "packed" for score in record.scores)
    doubts = {  # what stands against a PASS
        "A1-TRAIN-CLOCK": f"the clock cut training short after {training.steps:,} steps" if cut and training else "",
        "C1-CAUSAL": f"in {seen} tries before this one the text had been seen" if seen else unpacked,
        "S1-ISOLATION": _missing_layers(record),
        "S7-OWN-MACHINE": "; ".join(record.conditions.slowed()) if record.conditions else "",
        "S6-PLAUSIBLE": f"{final.bpb:.4f} bpb is under the floor of {floor:g}" if final and final.bpb < floor else "",
    }
    for rule_id, message in (doubts | broken).items():
        word = given.get(rule_id, "no verdict")
        if message and (word != Verdict.FAIL if rule_id in broken else word == Verdict.PASS):
            yield f"{rule_id} is given as {word}, but {message}"
    if given.get("A3-ARTIFACT-BYTES") == Verdict.FAIL and "A3-ARTIFACT-BYTES" not in broken:
        yield "A3-ARTIFACT-BYTES is given as FAIL, but the artifact is within the cap"
    # 6. The configuration has its digest. (The form of digests is the schema's; the chain has the intent's.)
    try:
        if (config := canonical_digest(record.submission.config)) != record.submission.config_digest:
            yield f"config_digest is {record.submission.config_digest[:16]}…; the configuration gives {config[:16]}…"
    except ValueError as error:
        yield f"submission.config: {error}"


def _broken_rules(record: RunRecord) -> Iterator[Finding]:
    """Rules that the figures break, whatever verdicts the record gives: cap, clocks, coverage, isolation."""
    sizes, final = record.sizes, record.final
    if sizes.total_bytes > sizes.cap_bytes:
        over = f"{sizes.total_bytes - sizes.cap_bytes:,} over"
        text = f"artifact is {sizes.total_bytes:,} bytes, cap {sizes.cap_bytes:,} ({over}); "
        yield _broken("A3-ARTIFACT-BYTES", f"{text}model {sizes.model_bytes:,} + code {sizes.code_bytes:,}")
    for budget in record.budgets:
        tolerant = budget.name == "train" and record.track.readings.get("train_clock") == "tolerate_200ms"
        if budget.used_s > budget.limit_s + (TRAIN_TOLERANCE_S if tolerant else 0.0):
            text = f"budget {budget.name} used {budget.used_s:.3f} s, limit {budget.limit_s:.1f} s"
            yield _broken(CLOCK_RULES.get(budget.name, "A2-EVAL-CLOCK"), text)
    if final and not (final.whole_set and final.targets == record.data.val_targets):
        yield _broken("C4-COVERAGE", f"the final stage scored {final.targets:,} targets of {record.data.val_targets:,}")
    if final and final.whole_set and final.bytes != record.data.val_bytes:
        text = f"the final score is over {final.bytes:,} bytes; the documents have {record.data.val_bytes:,}"
        yield _broken("A7-BYTES", text)
    if record.track.official and (missing := _missing_layers(record)):
        yield _broken("S1-ISOLATION", f"official track: {missing}")


def _missing_layers(record: RunRecord) -> str:
    missing = sorted(name for name, state in record.isolation.items() if not LayerState.read(state).in_force)
    return f"it ran without the isolation layers {', '.join(missing)}" * bool(missing)


def _broken(rule_id: str, message: str) -> Finding:
    return Finding(rule_id, Verdict.FAIL, message, remedy=rule(rule_id).remedy)


class Terms(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a record of one version of a track must agree with. Times in seconds, tolerances in nats and bpb.

    positions: audited positions at least; rerun_bpb: largest difference of a repetition on another machine
    The last four hold nothing against a record of a version that is listed without them.
    """

    official: bool
    dataset: str
    train_s: float
    eval_s: float
    artifact_bytes: int
    gpus: int
    gpu_model: str
    positions: int
    tolerance_nats: float
    rerun_bpb: float
    readings: dict[str, str]
    deadline: str = ""
    setup_s: float = math.inf
    warmup_s: float = math.inf
    escape_nats: float = math.inf
    floor_bpb: float = 0.0


class KnownText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The validation side of one version of a data set."""

    val_documents: int
    val_targets: int
    val_bytes: int


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By name, then by digest (tracks) or fingerprint (data)."""

    tracks: dict[str, dict[str, Terms]]
    data: dict[str, dict[str, KnownText]]


@cache
def known() -> Known:
    """The committed list."""
    return msgspec.json.decode(KNOWN_FILE.read_bytes(), type=Known)


def terms_of(track: Track) -> Terms:
    """The terms of a track as it is now."""
    every = {"readings": msgspec.to_builtins(track.readings)}
    for part in (track, track.limits, track.hardware, track.audit):
        every = msgspec.structs.asdict(part) | every
    return msgspec.convert({name: every[name] for name in Terms.__struct_fields__}, Terms)


@cache
def current_digest(name: str) -> str:
    """Digest of the track of that name as it is shipped now; "" where none is."""
    return load_track(name).digest if name in track_names() else ""


def terms_for(record: RunRecord) -> Terms | None:
    """The terms of the track's version that the record names; ``None`` for one that nobody here knows."""
    name, digest = record.track.name, record.track.digest
    if digest == current_digest(name):
        return terms_of(load_track(name))
    return known().tracks.get(name, {}).get(digest)


def check_names(record: RunRecord) -> Iterator[Finding]:
    """The record's limits against the track of that name, and its text against the data set of that name.

    FAIL for other terms or another text under a known name; WARN for what this version can't know.
    """
    warn, fail = (partial(Finding, "R4-ARITHMETIC", verdict) for verdict in (Verdict.WARN, Verdict.FAIL))
    name, digest, terms = record.track.name, record.track.digest, terms_for(record)
    if name not in known().tracks and not current_digest(name):
        yield warn(f"track {name!r} is not shipped with this version; its limits are the record's own word")
    elif terms is None:
        text = f"no version of track {name} up to this one has the digest {digest[:12]}: these are other terms"
        yield fail(text, remedy="If the record is of a newer version of the referee, verify it with that version.")
    else:
        if digest != current_digest(name):
            text = f"track {name} has changed since ({digest[:12]} then)"
            yield warn(f"{text}; the record is held against the terms of then")
        yield from (fail(f"{text} is not what track {name} says") for text in _other_terms(record, terms))
    data, pinned = record.data, known().data.get(record.data.name)
    if terms and data.name != terms.dataset:
        yield warn(f"data set {data.name} instead of the track's {terms.dataset}: not comparable with the track")
    elif terms and pinned is None:
        text = f"data set {data.name} is not pinned in this version"
        yield warn(f"{text}; whether it is the published text is not checked")
    text_here = KnownText(data.val_documents, data.val_targets, data.val_bytes)
    if pinned is not None and pinned.get(data.fingerprint) != text_here:
        text = (
            f"data set {data.name} with fingerprint {data.fingerprint[:12]}, {data.val_targets:,} targets and "
            f"{data.val_bytes:,} bytes is another text than the one of that name"
        )
        yield fail(text, remedy="Give another text a name of its own.")


def _other_terms(record: RunRecord, terms: Terms) -> Iterator[str]:
    limits = {"train": terms.train_s, "eval": terms.eval_s}
    for budget in record.budgets:
        if limits.get(budget.name) != budget.limit_s:
            yield f"budget {budget.name} limit {budget.limit_s}"
    yield from (f"budget {name} is not stated" for name in limits if name not in {b.name for b in record.budgets})
    for span in record.spans:
        most_s = {"setup": terms.setup_s, "warmup": terms.warmup_s}.get(span.name.partition(" ")[0], math.inf)
        if max(span.seconds - 1.0, span.limit_s or 0.0) > most_s:  # it ends a moment after an answer in time
            yield f"span {span.name} of {span.seconds:.1f} s, limit {span.limit_s},"
    if terms.deadline and record.started_at > terms.deadline:
        yield f"the start at {record.started_at}, after the deadline {terms.deadline},"
    if record.sizes.cap_bytes != terms.artifact_bytes:
        yield f"cap {record.sizes.cap_bytes:,} bytes"
    if record.track.official != terms.official:
        yield f"official {record.track.official}"
    if record.track.readings != terms.readings:
        yield f"the set of readings {record.track.readings}"
    fitting = sum(terms.gpu_model in name for name in record.machine.gpus)
    given = {finding.verdict for finding in record.findings if finding.rule == "A1-HARDWARE"}
    if terms.official and terms.gpu_model and fitting < terms.gpus and not given & {Verdict.WARN, Verdict.FAIL}:
        yield f"a machine with {fitting} GPUs of the model {terms.gpu_model} without a warning of A1-HARDWARE"


def _left_out(record: RunRecord) -> Iterator[str]:
    """What a record leaves out that one of its kind must hold [R7-COMPLETE]."""
    given = {finding.rule: finding.verdict for finding in record.findings}
    if record.kind == "self-reported":
        if claimed := sorted(name for name in REQUIRED_RULES - MEASURED if given.get(name) is Verdict.PASS):
            yield f"a script that scored itself can't pass {', '.join(claimed)}"
        if silent := sorted({"C1-CAUSAL", "A7-BPB"} - given.keys()):
            yield f"a script that scored itself has to say so of {', '.join(silent)}"
        return
    terms, older = terms_for(record), record.provenance is None  # of version 1
    wanted = REQUIRED_RULES | ({"A1-HARDWARE"} if terms and terms.gpu_model else set())
    for lacks, names in (
        ("has no verdict on", {name for name in wanted if given.get(name, Verdict.UNKNOWN) is Verdict.UNKNOWN}),
        ("has no span called", CLOCK_RULES.keys() - {span.name for span in record.spans}),
        ("does not say what became of the layers", {*Layer} - {*record.isolation, *[Layer.GUARDED] * older}),
        ("leaves out", {name for name in LATER_FIELDS if not (older or getattr(record, name))}),
    ):
        if names:
            yield f"a refereed record {lacks} {', '.join(sorted(names))}"
    audits = {(audit.name, audit.rule): audit for audit in record.audits}
    draws = max([1, *(audit.k for (name, _), audit in audits.items() if name == LATER_AUDITS[1])])
    for name, rule_id in AUDITS.items():
        if (audit := audits.get((name, rule_id))) is None and not (older and name in LATER_AUDITS):
            yield f"a refereed record has no audit of {rule_id} called {name!r}"
        if audit is None or terms is None or given.get(rule_id) is not Verdict.PASS:
            continue
        # The last chunk may be too short for its part of the positions, so half of them is what is sure.
        least = min(terms.positions, record.data.val_targets) // 2 if name == "causality" else 1
        most, escape = terms.tolerance_nats, terms.escape_nats if record.track.name in known().tracks else math.inf
        most = mean_tolerance(most, terms.escape_nats) if name == LATER_AUDITS[1] else most
        passed, bound = f"{rule_id} passed without an audit {name!r}", audit.bound_nats or math.inf
        if audit.k < least or audit.tolerance_nats > most:
            yield f"{passed} of {least} positions or more within {most:g} nats"
        # Rows weigh a nat at least, so few draws bound little; a track of one's own may ask for more than there are.
        elif name == LATER_AUDITS[0] and not 1 - ESCAPE ** (1 / draws) <= bound <= escape:
            yield f"{passed} that bounds leaks to {escape:g} nats a token (here: {bound:g}, by {draws:,} draws)"
