"""Tracks: every limit and every reading of a disputed rule, as data: a TOML file each.

Those of the challenge ship in ``harness/tracks``; GOLF_TRACKS_DIR names a folder with further ones, under other names.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from harness.errors import UsageError

QUICK_TRAIN_S = 10.0
QUICK_TARGETS = 32_768


Seconds = Annotated[float, msgspec.Meta(gt=0, lt=1e9)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Bound = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one run. Names end in their unit: ``_s`` seconds, ``_bytes`` decimal bytes, ``_tokens`` tokens."""

    describe_s: Seconds
    setup_s: Seconds
    train_s: Seconds
    package_s: Seconds
    warmup_s: Seconds
    eval_s: Seconds
    artifact_bytes: Count
    unpacked_bytes: Count
    checkpoint_bytes: Count
    memory_bytes: Count
    processes: Count
    message_s: Seconds
    chunk_tokens: Count
    state_bytes: Count


class Hardware(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the track runs on. ``gpus`` is also the number of ranks; 0 means one CPU rank.

    gpu_model: part of the name that nvidia-smi gives the GPUs on which times compare; "": any. A track without it keeps
    the digest that it had before there was this field.
    """

    cpu_cores: Count
    gpus: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    gpu_model: str = ""

    def fitting(self, gpus: Sequence[str]) -> int:
        """How many of the GPUs of these names are of the track's model."""
        return sum(self.gpu_model in name for name in gpus)


class AuditPlan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much the referee audits, and how far a repetition on another machine may differ.

    positions: rows drawn evenly, each in a chunk of its own where that goes, compared over the whole vocabulary
    chunks:    how many of their chunks are replayed whole as well
    tolerance_nats:    largest allowed difference of a log-probability
    floor_bpb:         scores under it are held for review
    diagnostic_tokens: tokens scored for the two diagnostic stages (float model, packed model); 0 means all
    escape_nats: leaks of more nats a token than this are missed with a probability of 5 % at most; the number of rows
                 drawn by gain follows from it
    rerun_bpb:         largest difference in bpb between a record and its repetition where bits need not agree
    replayed_tokens:   the most that the audits may have replicas read; larger chunks are refused
    """

    chunks: Count
    positions: Count
    tolerance_nats: Bound
    floor_bpb: Bound
    diagnostic_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    escape_nats: Annotated[float, msgspec.Meta(gt=0, lt=1e9)] = 0.15
    rerun_bpb: Bound = 0.002
    replayed_tokens: Count = 2_500_000_000


TRAIN_TOLERANCE_S = 0.2  # what the reading ``train_clock = "tolerate_200ms"`` forgives


class TrackReadings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The readings of unsettled rules that this track uses (public rules A1 to A3)."""

    package_counts_in: Literal["eval", "train", "none"]
    train_clock: Literal["strict", "tolerate_200ms"]
    code_bytes: Literal["bundle", "raw"]


class Track(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One track: its data set, limits, hardware, audits and readings.

    deadline: runs that began later do not count, such as "2027-06-30T23:59:59Z"; "" for none
    """

    name: str
    title: str
    official: bool
    dataset: str
    vocab_size: int
    limits: Limits
    hardware: Hardware
    audit: AuditPlan
    readings: TrackReadings
    deadline: Annotated[str, msgspec.Meta(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?$")] = ""

    def refuse_when_closed(self, now: str) -> None:
        """Raise ``UsageError`` where ``now`` (of the same form) is behind the deadline."""
        if self.deadline and now > self.deadline:
            raise UsageError(f"track {self.name} closed at {self.deadline}.", remedy="`harness try` still runs on it.")

    @property
    def digest(self) -> str:
        """SHA-256 of the track's canonical JSON (sorted keys)."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def quick(self) -> "Track":
        """The same track for a look: little training, few audits, a few targets. Its digest is another, so no run of it
        can be taken for a run of this one.
        """
        fewer = 4  # a fourth of the draws, and of what they may read: the same chunks are too large
        audit = msgspec.structs.replace(
            self.audit,
            chunks=2,
            positions=8,
            diagnostic_tokens=QUICK_TARGETS,
            escape_nats=fewer * self.audit.escape_nats,
            replayed_tokens=max(1, self.audit.replayed_tokens // fewer),
        )
        limits = msgspec.structs.replace(self.limits, train_s=min(QUICK_TRAIN_S, self.limits.train_s))
        return msgspec.structs.replace(self, limits=limits, audit=audit)

    @property
    def ranks(self) -> int:
        """Number of worker processes in training and evaluation."""
        return max(1, self.hardware.gpus)


def track_names() -> list[str]:
    """Names of all tracks: those that ship with the referee, and those in GOLF_TRACKS_DIR."""
    return sorted(_texts())


def load_track(name: str) -> Track:
    """Read the track called ``name``. Raises ``UsageError`` for an unknown name or a malformed file."""
    texts = _texts()
    if name not in texts:
        remedy = f"Tracks: {', '.join(sorted(texts))}. GOLF_TRACKS_DIR names a folder with others."
        raise UsageError(f"unknown track {name!r}.", remedy=remedy)
    remedy = "Correct the field; the other tracks show the form."
    try:
        track = msgspec.toml.decode(texts[name].read_bytes(), type=Track)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{texts[name]}: {error}.", remedy=remedy) from error
    if track.name != name:
        raise UsageError(f"{texts[name]}: name is {track.name!r}; wanted {name!r}, as the file.", remedy=remedy)
    return track


def _texts() -> dict[str, Path]:
    """Name -> file. A track that ships cannot be replaced: its name means the same everywhere."""
    shipped, own = Path(__file__).parents[1] / "tracks", os.environ.get("GOLF_TRACKS_DIR", "")
    if own and not Path(own).is_dir():
        raise UsageError(f"GOLF_TRACKS_DIR is {own!r}, which is not a directory.", remedy="Unset it, or correct it.")
    folders = (*([Path(own)] if own else []), shipped)
    return {path.stem: path for folder in folders for path in folder.glob("*.toml") if path.is_file()}
