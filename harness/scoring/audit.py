"""Turns what the replicas answered into audit results and findings, each with its bound and its tolerance."""

import math
import tomllib
from pathlib import Path

import numpy as np
import torch

from harness.record.predicate import AUDITS, C1_CAUSAL, S4_STATE, AuditResult, mean_tolerance
from harness.rules import SEVERITY, Finding, Verdict
from harness.scoring.replay import Original, Replay, nats_apart
from harness.scoring.sample import FLOOR_NATS, GainSample, Nats, Place

ROW_SHARE = 0.75  # of what may escape: leaks over a row's tolerance
SPREAD = 4.0  # root mean square of 10,000 normal values, at least, in their largest: honest noise has no more of it
ONE_SIDED = 1.645  # standard deviations that a normal value exceeds once in twenty
Worst = tuple[float, Place | None]
TEXTS: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("audits.toml").read_text("utf-8"))


def judge_replays(
    original: Original, first: Replay, second: Replay, *, tolerance_nats: float, escape_nats: float
) -> list[AuditResult]:
    """The audits: three of C1-CAUSAL (even rows, rows by gain, estimated sum), S4-STATE-DECLARED, S5-DETERMINISM."""
    keeper, draws = original.keeper, original.draws
    whole = {(chunk, row) for chunk in keeper.whole for row in keeper.rows[chunk]}
    committed = {
        chunk: original.nats[start : start + count] for chunk in keeper.whole for start, count in [keeper.chunks[chunk]]
    }

    def apart(rows: dict[Place, torch.Tensor], nats: dict[int, Nats]) -> Worst:
        """The first replica against other rows and other nats, both of the chunks that were replayed whole."""
        found = {place: nats_apart(first.true[place], rows[place]) for place in whole}
        for chunk, own in first.nats.items():
            with np.errstate(invalid="ignore"):
                differences = np.nan_to_num(np.abs(own - nats[chunk]), nan=np.inf, posinf=np.inf)
            place = chunk, int(differences.argmax())
            found[place] = max(found.get(place, 0.0), float(differences[place[1]]))
        return _worst(found)

    agree, declared = apart(second.true, second.nats), apart(keeper.logits, committed)
    causal = max(_worst(first.apart), _worst(second.apart), key=lambda worst: worst[0])
    drawn = {original.place(target) for target in draws.targets()}
    # a replica has more time than the run: one that predicts a little better everywhere would hide a leak from the sum
    square = draws.by_gain.estimate(lambda target: first.dearer[original.place(target)] ** 2)
    worst = _worst({place: abs(first.dearer[place]) for place in drawn})
    by_gain = max(worst, (SPREAD * math.sqrt(square), None), key=lambda worst: worst[0])
    leak = draws.by_gain.estimate(lambda target: first.dearer[original.place(target)])
    leak = abs(leak) if leak == leak else math.inf
    allowed = mean_tolerance(tolerance_nats, escape_nats)
    escapes = escaping_nats(draws.by_gain, tolerance_nats, allowed)
    rows, k, over = sum(map(len, committed.values())), sum(map(len, keeper.rows.values())), draws.over_frozen
    said = {"k": k, "chunks": len(keeper.rows), "draws": draws.by_gain.draws, "nats": draws.by_gain.nats}
    said |= {"floor": FLOOR_NATS, "escapes": escapes, "over": over.draws, "over_nats": over.nats}
    said |= {"cheap": len(draws.outlier_chunks), "rows": rows, "whole": len(whole)}
    found: dict[str, tuple[Worst, int, float, float | None]] = {
        "causality": (causal, k, tolerance_nats, None),
        "costly targets": (by_gain, len(drawn), tolerance_nats, escapes),
        "sum of all leaks": ((leak, None), draws.by_gain.draws, allowed, None),
        "declared state": (declared, rows, tolerance_nats, None),
        "determinism": (agree, rows, tolerance_nats, None),
    }
    results, secret = [], keeper.secret.hex()
    for name, ((nats, place), count, most, bound) in found.items():
        text, verdict = TEXTS[name]["passed"].format(**said), Verdict.PASS
        if not nats <= most:
            text, verdict = TEXTS[name]["failed"], Verdict.FAIL
            text += "" if place is None else f" Worst at target {original.target(place):,}: {nats:.3g} nats."
            if declared[0] > tolerance_nats and AUDITS[name] == C1_CAUSAL:  # this alone shows no leak
                text += f" With the true inputs a replica's logits differ as well: {S4_STATE} may be the cause of both."
        results.append(AuditResult(name, AUDITS[name], verdict.value, count, min(nats, 1e9), most, secret, text, bound))
    return results


def escaping_nats(by_gain: GainSample, tolerance_nats: float, allowed_nats: float) -> float:
    """The leak, nats a token, above which a cheat is found with a probability of 95 % at least.

    Rows that leak more than the tolerance are found one by one; if these make up more than ``by_gain.bound_nats``, a
    draw hits one. Rows that leak less add up in the estimate. A leak l <= tolerance at a row of weight w >= FLOOR_NATS
    has (l / w)^2 <= l / w * tolerance / FLOOR_NATS, so the estimate of a sum y has at most the variance
    nats * tolerance / FLOOR_NATS * y / draws, and y is solved for.
    """
    wide = ONE_SIDED * math.sqrt(by_gain.nats * tolerance_nats / FLOOR_NATS / by_gain.draws)
    small = ((wide + math.sqrt(wide * wide + 4 * allowed_nats)) / 2) ** 2
    return by_gain.bound_nats() + small


def replica_lost(original: Original, tolerance_nats: float, reason: str) -> list[AuditResult]:
    """The results when a replica could not repeat what the run did: the state is not all there is [S4]."""
    lost = Verdict.FAIL.value, f"A fresh replica cannot repeat what the run did: {reason}"
    rest = Verdict.ERROR.value, "Not checked: a replica failed."
    said = {name: lost if rule == S4_STATE else rest for name, rule in AUDITS.items()}
    numbers = 0, 0.0, tolerance_nats, original.keeper.secret.hex()
    return [AuditResult(name, AUDITS[name], verdict, *numbers, text) for name, (verdict, text) in said.items()]


def audit_findings(results: list[AuditResult], *, bpb: float, floor_bpb: float, degenerate: str) -> list[Finding]:
    """One finding a rule, of its audits that are worst, and S6-PLAUSIBLE from the score and the kept rows."""
    findings = []
    for rule in dict.fromkeys(result.rule for result in results):
        of_rule = [result for result in results if result.rule == rule]
        verdict = min((Verdict(result.verdict) for result in of_rule), key=SEVERITY.index)
        said = [
            f"{result.message} Worst difference {result.worst_nats:.3g} nats, tolerance {result.tolerance_nats:g}."
            for result in of_rule
            if result.verdict == verdict.value
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


def _worst(apart: dict[Place, float]) -> Worst:
    place = max(apart, key=lambda at: apart[at], default=None)
    return (0.0, None) if place is None else (apart[place], place)
