"""What stands beside run records in a signer's chain: intents, reviews and the chain's head.

Together with :class:`harness.record.predicate.RunRecord` these are all the predicates a records folder holds.
``predecessor`` is the digest of the signer's entry before this one, of whatever kind; "" for the first.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.rules import Finding

INTENT_TYPE = "https://parameter-golf.example/intent/v1"
REVIEW_TYPE = "https://parameter-golf.example/review/v1"
HEAD_TYPE = "https://parameter-golf.example/chain-head/v1"


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The announcement of one run, signed before its training starts. Digests are SHA-256 in hex.

    audit_commitment: of the secret that the run's audits are drawn from; "" in runs of before there was one
    """

    run_id: str
    announced_at: str
    track: str
    track_digest: str
    submission: str
    code_digest: str
    config_digest: str
    data_fingerprint: str
    seed: int
    predecessor: str = ""
    audit_commitment: str = ""


class Review(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reviewer's own result on somebody's record: the counter-signature.

    record:     digest of the record it is about
    level:      2 artifact checked and scored again in part, 3 whole run repeated
    outcome:    "same" to the bit, "within-tolerance", or "different"
    nats, bytes, bpb, artifact_digest: what the reviewer's run gave; 0 and "" where it ended without a score
    tolerance_bpb: the largest difference that counts as within tolerance; 0 where bits must agree
    findings: every FAIL and ERROR of the reviewer's run; with any the outcome is "different"
    """

    record: str
    level: Literal[2, 3]
    outcome: Literal["same", "within-tolerance", "different"]
    reviewed_at: str
    artifact_digest: str
    nats: float
    bytes: int
    bpb: float
    tolerance_bpb: float
    harness_version: str
    cpu: str
    gpus: list[str]
    note: str
    predecessor: str = ""
    findings: list[Finding] = []


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest entry of a signer's chain and the number of entries, so that a chain cut short is seen."""

    newest: str
    entries: int
