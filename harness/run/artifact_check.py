"""Level 2, first half: is the artifact at hand the recorded one, sound, and as large as the record says?

What is not covered: whether it scores what the record says; that is :mod:`harness.run.rescore`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from harness.errors import RuleBroken
from harness.protocol.container import ContainerError, read_container
from harness.record.canonical import file_digest
from harness.record.predicate import RunRecord
from harness.rules import Finding, Verdict
from harness.run.bundle import MAX_CODE_BYTES
from harness.run.model_file import read_model_file

BUNDLE_ROOM_BYTES = 1_000_000


def check_artifact_files(record: RunRecord, folder: Path) -> list[Finding]:
    """Judge ``model.bin`` and ``code.bundle`` in ``folder`` against the record."""
    missing = [name for name in record.artifact_files if not (folder / name).is_file()]
    if missing:
        text = f"no {' and no '.join(missing)} at hand: give their folder with --artifact"
        return [Finding("A3-CONTAINER", Verdict.ERROR, text)]
    problems = [*_digests(record, folder), *_sizes(record, folder), *_model(record, folder), *_code(record, folder)]
    return problems or [Finding("A3-CONTAINER", Verdict.PASS, "the artifact at hand is the recorded one, and sound")]


def _digests(record: RunRecord, folder: Path) -> Iterator[Finding]:
    for name, digest in record.artifact_files.items():
        found = file_digest(folder / name)
        if found != digest:
            text = f"{folder / name} has SHA-256 {found[:16]}…; the record names {digest[:16]}…"
            yield Finding("R4-ARITHMETIC", Verdict.FAIL, text)


def _sizes(record: RunRecord, folder: Path) -> Iterator[Finding]:
    sizes = record.sizes
    reading = record.track.readings.get("code_bytes", "bundle")
    model = (folder / "model.bin").stat().st_size
    code = (folder / "code.bundle").stat().st_size if reading == "bundle" else sizes.code_raw_bytes
    if (model, code) != (sizes.model_bytes, sizes.code_bytes):
        text = (
            f"model.bin has {model:,} bytes and the code counts {code:,}; "
            f"the record says {sizes.model_bytes:,} and {sizes.code_bytes:,}"
        )
        yield Finding("A3-ARTIFACT-BYTES", Verdict.FAIL, text)


def _model(record: RunRecord, folder: Path) -> Iterator[Finding]:
    try:
        read_model_file(
            folder / "model.bin", max_bytes=record.sizes.cap_bytes, max_unpacked_bytes=_unpacked_limit(record)
        )
    except RuleBroken as error:
        yield Finding(error.rule, Verdict.FAIL, error.message, remedy=error.remedy)


def _unpacked_limit(record: RunRecord) -> int:
    from harness.config.tracks import load_track, track_names

    name = record.track.name
    return load_track(name).limits.unpacked_bytes if name in track_names() else 64 * record.sizes.cap_bytes


def _code(record: RunRecord, folder: Path) -> Iterator[Finding]:
    rule = "A3-NO-UNCOUNTED-CODE"
    try:
        sections = read_container(
            (folder / "code.bundle").read_bytes(), max_unpacked_bytes=MAX_CODE_BYTES + BUNDLE_ROOM_BYTES
        )
    except ContainerError as error:
        yield Finding(rule, Verdict.FAIL, f"code.bundle is no sound container: {error}")
        return
    found = {name: hashlib.sha256(data).hexdigest() for name, data in sections.items()}
    recorded = record.submission.files
    names = sorted(name for name in found.keys() | recorded.keys() if found.get(name) != recorded.get(name))
    if names:
        yield Finding(rule, Verdict.FAIL, f"code.bundle differs from the recorded files in {', '.join(names[:8])}")
    raw = sum(map(len, sections.values()))
    if raw != record.sizes.code_raw_bytes:
        yield Finding(
            "A3-ARTIFACT-BYTES",
            Verdict.FAIL,
            f"the code has {raw:,} bytes; the record says {record.sizes.code_raw_bytes:,}",
        )
