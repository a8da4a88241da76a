"""All that a records folder holds: what one refereed run found, and beside it intents, reviews and a chain's head.

Version 2 must also hold ``provenance``: what a later reader needs to know of the referee and its surroundings. Records
of version 1 verify for ever.

Every number a rerun or a reviewer needs is here; derived numbers (bpb, sums, verdicts) follow from the raw ones and
``harness verify`` recomputes them. Times are seconds since the run began unless a name says otherwise. Digests are
SHA-256 in hex. ``predecessor`` is the digest of the signer's entry before this one, of whatever kind; "" for the first.
"""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from harness.rules import Finding

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class TrackInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The track: its name, the digest of its file's content and the readings of disputed rules in force."""

    name: str
    digest: Digest
    official: bool
    readings: dict[str, str]


class SubmissionInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was run. ``config`` and ``parameters`` are the submission's own declaration, recorded as such."""

    name: str
    code_digest: Digest
    files: dict[str, str]
    config: dict[str, str | int | float | bool | None]
    config_digest: str
    parameters: int
    seed: int


class DataInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data set, by digest of each file (SHA-256), and the size of its validation side."""

    name: str
    fingerprint: str
    files: dict[str, Digest]
    val_documents: int
    val_targets: int
    val_bytes: int
    train_tokens: int


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine that ran it, without anything that identifies its owner."""

    system: str
    kernel: str
    cpu: str
    cpu_cores: int
    memory_bytes: int
    gpus: list[str]
    python: str
    packages: dict[str, str]

    @property
    def kind(self) -> str:
        """What results are grouped by: its GPUs, processor and cores."""
        gpus = f"{len(self.gpus)}× {self.gpus[0]}, " if self.gpus else ""
        return f"{gpus}{self.cpu}, {self.cpu_cores} cores"


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ran the run, so that it can be checked later. Digests are SHA-256 in hex; "" is what could not be known.

    referee:  digest over the names and digests of the referee's own files
    commit:   of the repository that they came from; "<commit>+changes" where they differ from it
    libc, driver, cuda: versions of the C library, of the GPU driver and of PyTorch's CUDA
    image:    id of the container image that the referee ran in
    packages: "name==version" -> digest of its list of files (``RECORD``), for every installed package
    """

    referee: str
    commit: str
    libc: str
    driver: str
    cuda: str
    image: str
    packages: dict[str, str]


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How training ended, in the submission's own words: steps done, and what ended them.

    ended: "complete" as planned, "clock" cut short by the clock, "" where it did not say
    """

    steps: int
    ended: Literal["complete", "clock", ""]


FOREIGN_SHARE, STOLEN_SHARE, THROTTLED_SHARE = 0.05, 0.02, 0.01  # of the processors, and of the run's time


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the run had the machine to itself. Shares are of all processors over the whole run, 0 to 1.

    gpu_shared: other processes were on the GPUs when it started; gpu_limits: what slowed the GPUs at any time
    quota_throttled_s: seconds for which a quota of a control group (a container's) held the run's processes back
    open_gpus: GPUs whose device nodes the cells could open, where that is more than the run's own
    """

    foreign_cpu_share: float
    stolen_cpu_share: float
    cpu_throttle_events: int
    gpu_shared: bool
    gpu_limits: list[str]
    quota_throttled_s: float = 0.0
    open_gpus: int = 0

    def slowed(self, seconds: float = math.inf) -> list[str]:
        """In words, each thing that may have slowed a run of ``seconds``."""
        foreign, stolen, held_s = self.foreign_cpu_share, self.stolen_cpu_share, self.quota_throttled_s
        found = (
            (foreign > FOREIGN_SHARE, f"other processes took {foreign:.1%} of the processors"),
            (stolen > STOLEN_SHARE, f"the hypervisor took {stolen:.1%} of the processors"),
            (held_s > THROTTLED_SHARE * seconds, f"a quota of its control group held it back for {held_s:.1f} s"),
            (self.cpu_throttle_events, f"the processors were throttled {self.cpu_throttle_events} times"),
            (self.gpu_shared, "other processes were on the GPUs"),
            *((True, f"GPU: {limit}") for limit in self.gpu_limits),
        )
        return [text for holds, text in found if holds]


class ReadablePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part of what a scored cell could read beside the counted files: an interpreter, a package, libraries.

    digest: SHA-256 over names and contents, compiled copies left out; of the system's tools over names and sizes
    """

    name: str
    files: int
    bytes: int
    digest: str


class SpanEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One span of the referee's ledger; ``budget`` names the budget it counts in ("" for none)."""

    name: str
    start_s: Seconds
    seconds: Seconds
    limit_s: float | None
    budget: str


class BudgetEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One budget: the sum of the spans that count in it, against its limit."""

    name: str
    used_s: float
    limit_s: float


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that count against the cap (code, model), and the code's size before bundling for information."""

    code_bytes: Bytes
    code_raw_bytes: Bytes
    model_bytes: Bytes
    total_bytes: Bytes
    cap_bytes: Bytes


C1_CAUSAL, S4_STATE = "C1-CAUSAL", "S4-STATE-DECLARED"
AUDITS = {  # of a refereed run, by name -> the rule that each is of
    "causality": C1_CAUSAL,
    "costly targets": C1_CAUSAL,
    "sum of all leaks": C1_CAUSAL,
    "declared state": S4_STATE,
    "determinism": "S5-DETERMINISM",
}
ESCAPE = 0.05  # the chance that the draws of an audit all miss a leak as large as its bound
MEAN_NATS, MEAN_SHARE = 1e-3, 0.125  # a fifth of what a record has to gain, for a mean is steady; of what may escape
STAGES = {"float": "before quantisation", "packed": "after quantisation", "final": "after test-time training"}


def mean_tolerance(tolerance_nats: float, escape_nats: float) -> float:
    """The largest estimate of all leaks together that passes, nats a token."""
    return min(tolerance_nats, MEAN_NATS, MEAN_SHARE * escape_nats)


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pass over the validation stream: summed nats, scored targets, raw bytes, and bpb that follows."""

    stage: Literal["float", "packed", "final"]
    nats: float
    targets: int
    bytes: int
    bpb: float
    whole_set: bool
    seconds: float


class AuditResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One audit: what it drew, what it found, and the bound that follows.

    k:          independent draws, or rows compared
    worst_nats: largest difference seen in a log-probability; tolerance_nats: the largest allowed
    entropy:    hex of the secret that all draws follow from; its SHA-256 stands in the intent
    bound_nats: leaks of more nats a token than this escape with a probability of at most 5 %; absent: no such bound
    """

    name: str
    rule: str
    verdict: Annotated[str, Meta(pattern="^(PASS|FAIL|ERROR)$")]
    k: int
    worst_nats: float
    tolerance_nats: float
    entropy: str
    message: str
    bound_nats: float | None = None


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole record of one run.

    kind:          "refereed", or "self-reported" for scripts that score themselves
    intent:        digest of the signed intent that announced the run
    predecessor:   digest of the record before this one in the folder's chain, "" for the first
    isolation:     layer -> "in force: how" or "missing: reason"
    baselines_bpb: what the same validation text costs under simple methods
    running_bpb:   [targets so far, bpb so far] points of the final stage
    frozen_bpb:    the same of the packed model, which does not adapt; empty where that pass was left out
    conditions:    whether the run had its machine to itself; absent where nobody looked
    readable:      what the scored cells could read of the machine, part by part; empty in older records
    resumes:       for each time that the run went on after its training: when, how far it had come, and what ended it
    provenance:    referee, packages and system; present from version 2 on
    training:      how training ended; absent in version 1 and for scripts that score themselves
    """

    run_id: str
    kind: Literal["refereed", "self-reported"]
    harness_version: str
    started_at: str
    track: TrackInfo
    submission: SubmissionInfo
    data: DataInfo
    machine: Machine
    isolation: dict[str, str]
    spans: list[SpanEntry]
    budgets: list[BudgetEntry]
    sizes: Sizes
    scores: list[Score]
    baselines_bpb: dict[str, float]
    running_bpb: list[tuple[int, float]]
    loss_curve: list[tuple[int, float]]
    audits: list[AuditResult]
    findings: list[Finding]
    artifact_digest: Digest
    intent: str
    predecessor: str
    conditions: Conditions | None = None
    model_sections: dict[str, int] = {}
    readable: list[ReadablePart] = []
    resumes: list[str] = []
    provenance: Provenance | None = None
    training: Training | None = None
    frozen_bpb: list[tuple[int, float]] = []

    @property
    def artifact_files(self) -> dict[str, str]:
        """The files of the artifact, by name, with their SHA-256."""
        return {"model.bin": self.artifact_digest, "code.bundle": self.submission.code_digest}

    @property
    def clocks(self) -> list[BudgetEntry]:
        """The budgets that its track limits; none for a script, whose whole time is one span."""
        return self.budgets if self.kind == "refereed" else []

    @property
    def steps(self) -> int:
        """Training steps; of a run that does not state them, the last of its loss curve."""
        return self.training.steps if self.training else self.loss_curve[-1][0] if self.loss_curve else 0

    @property
    def stages(self) -> dict[str, str]:
        """Stage -> words for it, in the order of a run. A script has one score, its own word."""
        return STAGES if self.kind == "refereed" else {"final": "as the script printed it"}

    @property
    def final(self) -> Score | None:
        """The score that counts, or ``None`` when the record holds none."""
        return next((score for score in self.scores if score.stage == "final"), None)


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
