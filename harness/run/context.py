"""What all phases of one run share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.clock.spans import Ledger
from harness.config.tracks import Track
from harness.progress import Reporter
from harness.record.predicate import Training
from harness.run.conditions import MachineWatch
from harness.run.seal import SealedSubmission
from harness.sandbox.cell import IN_FORCE
from harness.sandbox.spec import KillReport
from harness.scoring.sample import ENTROPY_BYTES

LOSS_POINTS = 200


@dataclass
class RunContext:
    """One run: what is fixed, and what the phases add to it.

    bos_id:    the token that opens each document of the run's data set
    isolation: layer -> state, the weaker one where phases differ
    kills:     how each cell ended, in the order of the phases
    data_dir:  folder of the data set, as soon as it is known
    compiled_bytes: what the compile cache packs to
    audit_secret: what all draws of the audits follow from, fixed when the submission is sealed; no cell can read it
    resumes:   for people, each time that the run went on after its training
    training:  how training ended, once it did
    machine:   watches what else the machine does, while there is a clock
    """

    track: Track
    seed: int
    run_dir: Path
    sealed: SealedSubmission
    environ: Mapping[str, str]
    progress: Reporter
    clock: Ledger
    isolation: dict[str, str] = field(default_factory=dict)
    kills: list[tuple[str, KillReport]] = field(default_factory=list)
    data_dir: Path | None = None
    compiled_bytes: int = 0
    audit_secret: bytes = field(default_factory=lambda: os.urandom(ENTROPY_BYTES), repr=False)
    resumes: list[str] = field(default_factory=list)
    training: Training | None = None
    bos_id: int = 1
    machine: MachineWatch | None = None

    @property
    def artifact_dir(self) -> Path:
        """Where the counted files lie: ``code.bundle`` and ``model.bin``."""
        return self.run_dir / "artifact"

    @property
    def checkpoint_dir(self) -> Path:
        """What the train phase wrote."""
        return self.run_dir / "checkpoint"

    @property
    def closure_dir(self) -> Path:
        """The folder that packed and final evaluation and replicas start from: the counted files, nothing else."""
        return self.run_dir / "closure"

    @property
    def compiles(self) -> bool:
        """Whether one cell of the evaluation compiles for the others: the submission asks for it on this track."""
        wanted = self.sealed.manifest.compile_cache
        return wanted == "always" or (wanted == "gpu" and self.track.hardware.gpus > 0)

    @property
    def compile_cache_dir(self) -> Path:
        """What the compiling cell left for the evaluation's other cells; missing where the manifest wants none."""
        return self.run_dir / "compile-cache"

    def log_file(self, cell: str) -> Path:
        """Log of one cell: its standard output and error."""
        return self.run_dir / "logs" / f"{cell}.log"

    def note_isolation(self, layers: Mapping[str, str]) -> None:
        """Remember the layers of a cell; one that was missing once counts as missing, and is shown at once."""
        for layer, state in layers.items():
            if self.isolation.get(layer, IN_FORCE).startswith(IN_FORCE):
                self.isolation[layer] = state
                if not state.startswith(IN_FORCE):
                    self.progress.note(f"WARNING: isolation layer {layer} is {state}. `harness doctor` says more.")
