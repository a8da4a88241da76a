"""What an unmodified script finds: shards under the names that public scripts look for, and its variables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.config.tracks import Track
from harness.data import Dataset
from harness.data.shards import find_shards, shard_name
from harness.errors import UsageError

PUBLIC_PREFIX = "fineweb"
INSTEAD = {
    "DATA_PATH": "use --data",
    "TOKENIZER_PATH": "use --data",
    "VOCAB_SIZE": "use --track",
    "MAX_WALLCLOCK_SECONDS": "use --track",
    "SEED": "use --seed",
    "RANK": "use --track",
    "LOCAL_RANK": "use --track",
    "WORLD_SIZE": "use --track",
    "MASTER_ADDR": "leave it out",
    "MASTER_PORT": "leave it out",
    "OMP_NUM_THREADS": "use --track",
    "PYTHONUNBUFFERED": "leave it out",
    "RUN_ID": "leave it out",
}


def refuse_own(names: Iterable[str]) -> None:
    """Raises ``UsageError`` for a variable that the referee sets: a user's value would be lost without a word."""
    for name in names:
        if name in INSTEAD:
            raise UsageError(f"--env {name}: the referee sets {name}.", remedy=f"fix: {INSTEAD[name]}.")


def link_shards(dataset: Dataset, folder: Path) -> None:
    """Make ``folder`` with links ``fineweb_train_*.bin`` and ``fineweb_val_*.bin`` to the shards of any data set.

    The byte ledger stays out: its name would match a script's pattern for validation shards.
    """
    folder.mkdir()
    for part in ("train", "val"):
        for index, shard in enumerate(find_shards(dataset.folder, part)):
            (folder / shard_name(PUBLIC_PREFIX, part, index)).symlink_to(shard)


def script_variables(track: Track, dataset: Dataset, seed: int, data: Path) -> dict[str, str]:
    """The variables that public scripts read; ``data`` is the folder of ``link_shards``."""
    return {
        "DATA_PATH": str(data),
        "TOKENIZER_PATH": str(dataset.tokenizer),
        "VOCAB_SIZE": str(dataset.vocab_size),
        "MAX_WALLCLOCK_SECONDS": f"{track.limits.train_s:g}",
        "SEED": str(seed),
        "RUN_ID": "self-reported",
        "OMP_NUM_THREADS": str(max(1, track.hardware.cpu_cores // track.ranks)),
        "PYTHONUNBUFFERED": "1",
    }
