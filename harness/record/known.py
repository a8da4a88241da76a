"""What a record is held against by name: the terms of every version of a track, and the text of every pinned data set.

``known.json`` lists them; it grows and never changes, so that a record of an earlier version of a track verifies under
the terms of that time, and one with other terms or another text under a known name does not.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from harness.config.tracks import Track

KNOWN_FILE = Path(__file__).with_name("known.json")


class Terms(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a record of one version of a track must agree with. Times in seconds, tolerances in nats and bpb.

    positions: audited positions at least; rerun_bpb: largest difference of a repetition on another machine
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
