"""What counts against the cap: the code that travels plus the model file [A3-ARTIFACT-BYTES]."""

from __future__ import annotations

from harness.config.tracks import Track
from harness.record.predicate import Sizes
from harness.rules import Finding, Verdict

RULE = "A3-ARTIFACT-BYTES"


def counted_code_bytes(track: Track, *, bundle_bytes: int, raw_bytes: int) -> int:
    """Code bytes by the track's reading: the compressed bundle, or the files as they are."""
    return bundle_bytes if track.readings.code_bytes == "bundle" else raw_bytes


def model_budget(track: Track, *, bundle_bytes: int, raw_bytes: int) -> int:
    """Largest model file that still fits; negative when the code alone is over the cap."""
    code = counted_code_bytes(track, bundle_bytes=bundle_bytes, raw_bytes=raw_bytes)
    return track.limits.artifact_bytes - code


def artifact_sizes(track: Track, *, bundle_bytes: int, raw_bytes: int, model_bytes: int) -> Sizes:
    """The four numbers of the record, in bytes."""
    code = counted_code_bytes(track, bundle_bytes=bundle_bytes, raw_bytes=raw_bytes)
    cap = track.limits.artifact_bytes
    return Sizes(code, raw_bytes, model_bytes, code + model_bytes, cap)


def judge_sizes(sizes: Sizes) -> Finding:
    """PASS or FAIL with all numbers."""
    parts = f"model.bin {sizes.model_bytes:,} + code {sizes.code_bytes:,}"
    room = sizes.cap_bytes - sizes.total_bytes
    if room >= 0:
        return Finding(
            RULE, Verdict.PASS, f"{sizes.total_bytes:,} of {sizes.cap_bytes:,} bytes ({room:,} to spare); {parts}."
        )
    return Finding(
        RULE,
        Verdict.FAIL,
        f"artifact is {sizes.total_bytes:,} bytes, cap {sizes.cap_bytes:,} ({-room:,} over); {parts}.",
        where="artifact",
        found=f"{sizes.total_bytes:,} bytes",
        wanted=f"at most {sizes.cap_bytes:,} bytes",
        remedy="Prune more, use fewer bits, or compress better.",
    )
