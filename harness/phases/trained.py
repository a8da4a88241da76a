"""What a run remembers when its training is over, and again when it is packed, so that it can go on after a failure.

Written by the referee beside the checkpoint, whole or not at all. It names every file by digest; whoever owns the run
folder could forge it, as he could forge a record: he owns the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.errors import CouldNotCheck
from harness.files import tree, write_atomic
from harness.phases.context import RunContext
from harness.record import file_digest
from harness.record.predicate import Machine, SpanEntry, Training
from harness.sandbox.spec import KillReport

FILE_NAME = "trained.json"
BEFORE_AUDITS = "packaging or evaluation"


class Trained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run at the end of its training. Digests are SHA-256 in hex; ``checkpoint`` is relative path -> digest.

    audit_secret: hex; with it a resumed run is audited at the same places
    resumes:      one line for each time that the run went on, the oldest first
    reached, ended: of the attempt that goes on or ended last: its phase, and the error that ended it
    model: digest of ``model.bin`` once the run is packed, else ""; then ``spans`` hold the time of packaging too
    """

    track: str
    track_digest: str
    dataset: str
    data_fingerprint: str
    seed: int
    intent: str
    name: str
    code_digest: str
    config: dict[str, str | int | float | bool | None]
    parameters: int
    started_at: str
    environ: dict[str, str]
    machine: Machine
    checkpoint: dict[str, str]
    loss_curve: list[tuple[int, float]]
    spans: list[SpanEntry]
    isolation: dict[str, str]
    kills: list[tuple[str, KillReport]]
    audit_secret: str
    resumes: list[str] = []
    reached: str = BEFORE_AUDITS
    ended: str = ""
    training: Training | None = None
    model: str = ""


def remember(run_dir: Path, trained: Trained) -> None:
    """Store it in the run folder."""
    write_atomic(run_dir / FILE_NAME, msgspec.json.encode(trained), replace=True, mode=0o600)


def recall(run_dir: Path) -> Trained:
    """Read it. Raises ``CouldNotCheck`` when training was not over, or the file is not whole."""
    path = run_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trained)
    except FileNotFoundError:
        raise CouldNotCheck(
            f"{run_dir} has no {FILE_NAME}: its training did not end, so there is nothing sound to continue.",
            remedy="Start again with `make submit`; the announced run stays visible as one without a result.",
        ) from None
    except msgspec.DecodeError as error:
        raise CouldNotCheck(f"{path} is damaged ({error}).", remedy="Start again with `make submit`.") from None


def update(run_dir: Path, **changes: Any) -> None:
    """Change fields of what is stored; nothing happens in a run that is not to be resumed."""
    if (run_dir / FILE_NAME).exists():
        remember(run_dir, msgspec.structs.replace(recall(run_dir), **changes))


def forget(run_dir: Path) -> None:
    """Remove it: the run has a result."""
    (run_dir / FILE_NAME).unlink(missing_ok=True)


def kept_files(run_dir: Path) -> tuple[str, ...]:
    """What of a run's files it takes to go on; none when its training did not end."""
    try:
        trained = recall(run_dir)
    except CouldNotCheck:
        return ()
    return ("code", "checkpoint", "code.bundle", *(("artifact",) if trained.model else ()))


def checkpoint_digests(context: RunContext) -> dict[str, str]:
    """Digest of every plain file of the checkpoint; links and the like are left out."""
    folder = context.checkpoint_dir
    files = (path for path in tree(folder) if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
