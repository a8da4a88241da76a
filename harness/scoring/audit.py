"""Turns what the replicas answered into audit results and findings, each with its bound and its tolerance."""

from __future__ import annotations

import numpy as np
import torch

from harness.record.predicate import AuditResult
from harness.rules import Finding, Verdict
from harness.scoring.replay import Place, Replay, nats_apart
from harness.scoring.sample import AuditSample, GainSample, KeptChunk, Nats

MEAN_NATS = 1e-3  # a fifth of what a record has to gain: a mean over many rows is far steadier than one row
Worst = tuple[float, Place | None]


def judge_replays(
    sample: AuditSample,
    kept: dict[int, KeptChunk],
    first: Replay,
    second: Replay,
    *,
    gains: GainSample,
    starts: dict[int, int],
    tolerance_nats: float,
) -> list[AuditResult]:
    """The audits: three of C1-CAUSAL (rows drawn evenly, by gain, and the mean), S4-STATE-DECLARED, S5-DETERMINISM.

    starts: first target of each sampled chunk, so that messages name places in the stream
    """
    original = {(chunk, row): logits for chunk, keep in kept.items() for row, logits in keep.logits.items()}
    committed = {chunk: keep.nats for chunk, keep in kept.items()}
    agree = max(
        _worst({place: nats_apart(first.true[place], second.true[place]) for place in original}),
        _worst(_row_differences(first.nats, second.nats)),
        key=lambda worst: worst[0],
    )
    declared = max(
        _worst({place: nats_apart(first.true[place], original[place]) for place in original}),
        _worst(_row_differences(first.nats, committed)),
        key=lambda worst: worst[0],
    )
    causal = _worst(_causal_differences(original, first, second))
    by_gain = _worst({place: abs(first.dearer[place]) for place in _places(gains)})
    mean = abs(float(np.mean(list(first.dearer.values())))) if first.dearer else 0.0
    rows = sum(map(len, committed.values()))

    def result(
        name: str, rule: str, worst: Worst, k: int, passed: str, failed: str, allowed: float = tolerance_nats
    ) -> AuditResult:
        nats, place = worst
        good = nats <= allowed
        where = "" if good or place is None else f" Worst at target {starts[place[0]] + place[1]:,}: {nats:.3g} nats."
        verdict = Verdict.PASS if good else Verdict.FAIL
        text = passed if good else failed + where
        capped = min(nats, 1e9)  # JSON knows no infinity
        return AuditResult(name, rule, verdict.value, k, capped, allowed, sample.entropy, text)

    k, chunks = sample.positions, len(sample.rows)
    bound = (
        f"{k} positions in {chunks} chunks, each with a random future; a leak at more than a fraction f of positions "
        f"escapes with probability at most (1 - f)^{k}, one confined to a fraction f of chunks with (1 - f)^{chunks}."
    )
    return [
        result("causality", "C1-CAUSAL", causal, k, bound, "Logits change with inputs behind their position."),
        result(
            "costly targets",
            "C1-CAUSAL",
            by_gain,
            gains.draws,
            f"{gains.draws} draws by what targets gain over their frequency ({gains.nats:.2f} nats a token): a leak "
            f"that makes up {gains.bound_nats():.3f} nats a token of it escapes with probability at most 5 %.",
            "Targets that gained much cost more once the inputs behind them are random.",
        ),
        result(
            "mean of all cuts",
            "C1-CAUSAL",
            (mean, None),
            len(first.dearer),
            f"Over {len(first.dearer)} random futures targets cost on average what was committed.",
            "With a random future targets cost on average something else than was committed.",
            min(tolerance_nats, MEAN_NATS),
        ),
        result(
            "declared state",
            "S4-STATE-DECLARED",
            declared,
            rows,
            f"A fresh replica with the kept state reproduces the nats of {rows:,} targets, and {k} whole rows.",
            "A fresh replica with the kept state and the same inputs gives other logits than the run did.",
        ),
        result(
            "determinism",
            "S5-DETERMINISM",
            agree,
            rows,
            f"Two fresh replicas agree on the nats of {rows:,} targets, and on {k} whole rows.",
            "Two fresh replicas with the same state and inputs give different logits.",
        ),
    ]


def replica_lost(sample: AuditSample, tolerance_nats: float, reason: str) -> list[AuditResult]:
    """The results when a replica could not repeat what the run did: the state is not all there is [S4]."""
    lost = f"A fresh replica cannot repeat what the run did: {reason}"
    rest = "Not checked: a replica failed."
    texts = (
        ("causality", "C1-CAUSAL", Verdict.ERROR, rest),
        ("costly targets", "C1-CAUSAL", Verdict.ERROR, rest),
        ("mean of all cuts", "C1-CAUSAL", Verdict.ERROR, rest),
        ("declared state", "S4-STATE-DECLARED", Verdict.FAIL, lost),
        ("determinism", "S5-DETERMINISM", Verdict.ERROR, rest),
    )
    return [
        AuditResult(name, rule, verdict.value, 0, 0.0, tolerance_nats, sample.entropy, text)
        for name, rule, verdict, text in texts
    ]


def audit_findings(results: list[AuditResult], *, bpb: float, floor_bpb: float, degenerate: str) -> list[Finding]:
    """One finding a rule, of its audits that are worst, and S6-PLAUSIBLE from the score and the kept rows."""
    findings = []
    for rule in dict.fromkeys(result.rule for result in results):
        verdicts = {Verdict(result.verdict) for result in results if result.rule == rule}
        verdict = next(v for v in (Verdict.FAIL, Verdict.ERROR, Verdict.PASS) if v in verdicts)
        said = [
            f"{result.message} Worst difference {result.worst_nats:.3g} nats, tolerance {result.tolerance_nats:g}."
            for result in results
            if result.rule == rule and result.verdict == verdict.value
        ]
        findings.append(Finding(rule, verdict, " ".join(dict.fromkeys(said))))
    if bpb < floor_bpb:
        text = f"bpb {bpb:.4f} is under the floor of {floor_bpb:g}: held for review."
        remedy = "Show where the gain comes from; a reviewer decides."
        findings.append(Finding("S6-PLAUSIBLE", Verdict.FAIL, text, found=f"{bpb:.4f}", remedy=remedy))
    elif degenerate:
        findings.append(Finding("S6-PLAUSIBLE", Verdict.WARN, f"the predictor is degenerate: {degenerate}."))
    else:
        findings.append(Finding("S6-PLAUSIBLE", Verdict.PASS, f"bpb {bpb:.4f} is above the floor of {floor_bpb:g}."))
    return findings


def _row_differences(one: dict[int, Nats], other: dict[int, Nats]) -> dict[Place, float]:
    """For each chunk its worst row: where it is, and the difference in nats."""
    apart = {}
    for chunk, nats in one.items():
        with np.errstate(invalid="ignore"):
            rows = np.nan_to_num(np.abs(nats - other[chunk]), nan=np.inf, posinf=np.inf)
        row = int(rows.argmax())
        apart[chunk, row] = float(rows[row])
    return apart


def _causal_differences(original: dict[Place, torch.Tensor], first: Replay, second: Replay) -> dict[Place, float]:
    """At each audited place the largest difference that another future made, at the cut and at rows before it.

    A truncated replica may run kernels of another shape, so there the rounding of the logits' own type is allowed for.
    """
    apart = dict(first.earlier)
    for place in first.cut:
        apart[place] = max(apart[place], nats_apart(first.cut[place], original[place]))
    for place, logits in second.truncated.items():
        rounding = 4 * torch.finfo(logits.dtype).eps * float(logits.abs().max())
        apart[place] = max(apart[place], nats_apart(logits, original[place]) - rounding)
    return apart


def _places(gains: GainSample) -> list[Place]:
    return [(chunk, row) for chunk, rows in gains.rows.items() for row in rows]


def _worst(apart: dict[Place, float]) -> Worst:
    place = max(apart, key=lambda at: apart[at], default=None)
    return (0.0, None) if place is None else (apart[place], place)
