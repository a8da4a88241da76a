"""What a run log says, as values: scoring passes, clocks, sizes, counts and settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RAW_MODEL_BYTES = 4e7
"""An unlabelled total from this size on is the uncompressed model's."""


@dataclass(frozen=True)
class Score:
    """One scoring pass: loss in nats a token (``None`` when not printed), bpb, as printed, and its time in seconds."""

    label: str
    line: int
    bpb_text: str
    loss_text: str | None = None
    eval_s: float | None = None
    diagnostic: bool = False

    @property
    def bpb(self) -> float:
        """Bits per byte."""
        return float(self.bpb_text)

    @property
    def loss(self) -> float | None:
        """Nats per token."""
        return None if self.loss_text is None else float(self.loss_text)


@dataclass(frozen=True)
class Count:
    """A number that a line states, under a label."""

    label: str
    value: float
    line: int


@dataclass(frozen=True)
class Scorings:
    """A pass that was scored more than once, with different values: the first, the last, and how many."""

    first: Score
    last: Score
    number: int


@dataclass
class RunLog:
    """What one log says. Times are in seconds, sizes in bytes; ``None`` or empty where it says nothing."""

    file: str
    seed: int | None = None
    passes: list[Score] = field(default_factory=list)
    rescored: dict[str, Scorings] = field(default_factory=dict)
    curve: list[Score] = field(default_factory=list)
    last_step: int | None = None
    stop: Count | None = None
    longest_train: Count | None = None
    totals: list[Count] = field(default_factory=list)
    models: list[Count] = field(default_factory=list)
    codes: list[Count] = field(default_factory=list)
    eval_times: list[Count] = field(default_factory=list)
    warmups: list[Count] = field(default_factory=list)
    reserve: Count | None = None
    hessians: list[Count] = field(default_factory=list)
    calibrations: list[Count] = field(default_factory=list)
    val_tokens: Count | None = None
    train_shards: Count | None = None
    parameters: Count | None = None
    scored: list[Count] = field(default_factory=list)
    documents: Count | None = None
    gpus: list[str] = field(default_factory=list)
    world: int | None = None
    settings: dict[str, tuple[str, int]] = field(default_factory=dict)
    block: bool = False
    figures: list[Count] = field(default_factory=list)
    marks: list[Count] = field(default_factory=list)
    adaptations: list[Count] = field(default_factory=list)

    @property
    def final(self) -> Score | None:
        """The last pass that counts, with the most digits printed for it."""
        counting = [score for score in self.passes if not score.diagnostic]
        return counting[-1] if counting else None

    @property
    def total(self) -> Count | None:
        """The submission's size: the last labelled total; the unlabelled one is the uncompressed model's."""
        labelled = [item for item in self.totals if item.label]
        chosen = labelled or [item for item in self.totals if item.value < RAW_MODEL_BYTES]
        return chosen[-1] if chosen else None

    @property
    def by_label(self) -> dict[str, Score]:
        """Counting passes by label, ``_exact`` folded in."""
        return {score.label: score for score in self.passes if not score.diagnostic}


def base_label(label: str) -> str:
    """A pass without the number of its epoch or repetition: ``legal_ttt epoch 3`` is ``legal_ttt`` again."""
    return re.sub(r"[ _-]*(?:epoch|pass|round|iter|repeat)[ _-]?\d{1,6}$", "", label, flags=re.IGNORECASE) or label


def seed_of_name(name: str) -> int | None:
    """The seed that a file name states, such as ``train_seed42.log``."""
    found = re.search(r"seed[_-]?(\d{1,10})", name, re.IGNORECASE)
    return int(found[1]) if found else None
