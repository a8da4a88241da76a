"""Published exports from the Hugging Face hub: by their manifest, at a pinned revision, resumable, every byte checked.

Files gather in a hidden folder beside the final one and stay there after a failure, so that the next try goes on; the
final name appears only when every digest is right. ``fetch.json`` records repository, revision and digests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.data.build import folder_lock
from harness.data.dataset import MANIFEST
from harness.data.export import FETCHED, FetchPlan, FetchRecord, plan_files
from harness.data.hub import PARTS, Hub
from harness.errors import CouldNotCheck, UsageError
from harness.progress import Reporter

DISK_MARGIN_BYTES = 256_000_000


def fetch(plan: FetchPlan, folder: Path, progress: Reporter) -> FetchRecord:
    """Fetch into ``folder``; what is there already and right is not fetched again.

    Raises ``CouldNotCheck`` for no network, a wrong digest, too little disk, a manifest that changed or lacks the
    variant; ``UsageError`` for a fetch without documents into a folder that holds a data set made with them.
    """
    partial = folder.parent / f".partial-{folder.name}"
    with folder_lock(folder):
        _keep_complete(plan, folder)
        partial.mkdir(parents=True, exist_ok=True)
        _link_existing(folder, partial)
        record = plan_files(plan, partial)
        _check_disk(record, partial)
        _download_all(plan, record, partial, progress)
        _sweep(record, partial)
        if plan.with_docs:
            from harness.data.complete import complete

            complete(partial, record, progress)
        _swap(partial, folder)
    return record


def _keep_complete(plan: FetchPlan, folder: Path) -> None:
    """A fetch without documents would sweep away the ledger and ``dataset.json`` that an earlier one made of them."""
    if not plan.with_docs and (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder} holds a complete data set; a fetch without documents would take its byte ledger and {MANIFEST}.",
            remedy="Add --with-docs to change its shards, or remove the folder first.",
        )


def _check_disk(record: FetchRecord, partial: Path) -> None:
    needed = sum(file.size for file in record.files if not (partial / file.name).exists())
    free = shutil.disk_usage(partial).free
    if needed and needed + DISK_MARGIN_BYTES > free:
        raise CouldNotCheck(
            f"{partial.parent} has {free:,} bytes free; {needed:,} and a margin of {DISK_MARGIN_BYTES:,} are needed.",
            remedy="Free space, set GOLF_CACHE_DIR to another disk, or ask for fewer --train-shards.",
        )


def _download_all(plan: FetchPlan, record: FetchRecord, partial: Path, progress: Reporter) -> None:
    hub = Hub(record.repo, plan.endpoint)
    total, done = sum(file.size for file in record.files), 0
    with progress.stage(f"fetch {plan.variant}", total, "bytes") as stage:
        for file in record.files:
            base = done
            seen = 0

            def advance(amount: float, base: int = base, name: str = file.name) -> None:
                nonlocal seen
                seen += int(amount)
                stage.update(base + seen, name)

            hub.download(record.revision, file, partial, advance)
            done += file.size
            stage.update(done, file.name)


def _link_existing(folder: Path, partial: Path) -> None:
    """What an earlier fetch left complete serves this one."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        target = partial / path.name
        if path.is_file() and path.name != MANIFEST and not target.exists():
            try:
                os.link(path, target)
            except OSError:
                shutil.copy2(path, target)


def _sweep(record: FetchRecord, partial: Path) -> None:
    """Only what the record names goes under the final name."""
    shutil.rmtree(partial / PARTS, ignore_errors=True)
    kept = {file.name for file in record.files} | {FETCHED}
    for path in partial.iterdir():
        if path.is_file() and path.name not in kept:
            path.unlink()


def _swap(partial: Path, folder: Path) -> None:
    old = folder.parent / f".old-{folder.name}"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
