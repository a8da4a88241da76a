"""Seals a submission: from here on the run uses a read-only copy, and a bundle of exactly that copy."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.protocol.container import read_container
from harness.run.bundle import MAX_CODE_BYTES, pack_code, read_folder, unpack_code
from harness.run.manifest import Manifest, read_manifest

PACKAGE = "submission"
_NAMES_BYTES = 1_000_000  # room for the names in a bundle


@dataclass(frozen=True)
class SealedSubmission:
    """The sealed code of a run.

    root:        folder whose subfolder ``submission`` is the package
    bundle:      path of ``code.bundle``; bundle_bytes its size, raw_bytes the sum of its files
    code_digest: SHA-256 of the bundle, hex; files: relative path -> SHA-256
    """

    manifest: Manifest
    root: Path
    bundle: Path
    bundle_bytes: int
    raw_bytes: int
    code_digest: str
    files: dict[str, str]


def seal_submission(submission_dir: Path, run_dir: Path) -> SealedSubmission:
    """Read the folder once, write ``code.bundle``, and unpack the run's code from that bundle.

    Raises ``UsageError`` when the folder is no submission.
    """
    files = read_folder(submission_dir)
    manifest = read_manifest(files, str(submission_dir))
    if "__init__.py" not in files:
        raise UsageError(f"{submission_dir} has no __init__.py, so it is no package.", remedy="Add an empty one.")
    bundle = pack_code(files)
    with (run_dir / "code.bundle").open("xb") as file:
        file.write(bundle)
        file.flush()
        os.fsync(file.fileno())
    return _unpacked(run_dir, bundle, manifest, files)


def reopen_sealed(run_dir: Path) -> SealedSubmission:
    """The sealed code of an interrupted run, unpacked anew from its bundle; ``code`` must not exist."""
    bundle = (run_dir / "code.bundle").read_bytes()
    files = read_container(bundle, max_unpacked_bytes=MAX_CODE_BYTES + _NAMES_BYTES)
    return _unpacked(run_dir, bundle, read_manifest(files, "code.bundle"), files)


def _unpacked(run_dir: Path, bundle: bytes, manifest: Manifest, files: dict[str, bytes]) -> SealedSubmission:
    unpack_sealed(bundle, run_dir / "code")
    return SealedSubmission(
        manifest=manifest,
        root=run_dir / "code",
        bundle=run_dir / "code.bundle",
        bundle_bytes=len(bundle),
        raw_bytes=sum(map(len, files.values())),
        code_digest=hashlib.sha256(bundle).hexdigest(),
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )


def unpack_sealed(bundle: bytes, root: Path) -> None:
    """Unpack ``bundle`` as the package below ``root``, a folder that must not exist yet; everything read-only."""
    (root / PACKAGE).mkdir(parents=True)
    unpack_code(bundle, root / PACKAGE)
