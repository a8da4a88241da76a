"""Published exports from the Hugging Face hub: by their manifest, at a pinned revision, resumable, every byte checked.

Files gather in a hidden folder beside the final one and stay there after a failure, so that the next try goes on; the
final name appears only when every digest is right. ``fetch.json`` records repository, revision and digests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from harness.cli.progress import Reporter
from harness.data.build import folder_lock
from harness.data.dataset import MANIFEST
from harness.data.shards import sha256_file
from harness.errors import CouldNotCheck, UsageError
from harness.protocol.session import write_whole

DEFAULT_REPO = "willdepueoai/parameter-golf"
DEFAULT_PREFIX = "datasets"
VARIANTS = ("sp1024", "sp4096", "sp8192", "byte260")
FETCHED = "fetch.json"
DOCS = "docs_selected.jsonl"
ATTEMPTS = 5
DISK_MARGIN_BYTES = 256_000_000
_Result = TypeVar("_Result")


class FileInfo(msgspec.Struct, frozen=True):
    """A file of the export: its path in the repository, size, and digest (``sha256:…`` or ``git:…``, a blob id)."""

    path: str
    size: int
    digest: str

    @property
    def name(self) -> str:
        """Its name in the data set's folder."""
        return PurePosixPath(self.path).name


class FetchRecord(msgspec.Struct, frozen=True):
    """What was fetched, from where; written before the first file, so that a later try asks for the same."""

    repo: str
    prefix: str
    revision: str
    variant: str
    manifest_sha256: str
    files: list[FileInfo]


@dataclass(frozen=True)
class FetchPlan:
    """What to fetch. ``revision`` is a branch, tag or commit; whatever it is, one commit is pinned and recorded."""

    variant: str
    train_shards: int | None = None
    with_docs: bool = False
    revision: str | None = None
    repo: str = DEFAULT_REPO
    prefix: str = DEFAULT_PREFIX
    endpoint: str | None = None

    @staticmethod
    def from_environment(variant: str, train_shards: int | None, with_docs: bool, revision: str | None) -> FetchPlan:
        """A plan with the public repository's overrides. Raises ``UsageError`` for what is out of range."""
        if variant not in VARIANTS:
            raise UsageError(f"unknown variant {variant!r}.", remedy=f"Variants: {', '.join(VARIANTS)}.")
        if train_shards is not None and train_shards < 0:
            raise UsageError(f"--train-shards is {train_shards}; wanted 0 or more.")
        return FetchPlan(
            variant=variant,
            train_shards=train_shards,
            with_docs=with_docs,
            revision=revision,
            repo=os.environ.get("MATCHED_FINEWEB_REPO_ID", DEFAULT_REPO),
            prefix=os.environ.get("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", DEFAULT_PREFIX).strip("/"),
        )


def fetch(plan: FetchPlan, folder: Path, progress: Reporter) -> FetchRecord:
    """Fetch into ``folder``; what is there already and right is not fetched again.

    Raises ``CouldNotCheck`` for no network, a wrong digest, too little disk, a manifest that changed or lacks the
    variant.
    """
    partial = folder.parent / f".partial-{folder.name}"
    with folder_lock(folder):
        partial.mkdir(parents=True, exist_ok=True)
        _link_existing(folder, partial)
        record = _plan_files(plan, partial)
        _check_disk(record, partial)
        _download_all(plan, record, partial, progress)
        _sweep(record, partial)
        if plan.with_docs:
            from harness.data.published import complete

            complete(partial, record, progress)
        _swap(partial, folder)
    return record


def _plan_files(plan: FetchPlan, partial: Path) -> FetchRecord:
    """Pin the revision, read its manifest, list the files with their digests. A started fetch keeps its revision."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=plan.endpoint)
    before = _read_record(partial / FETCHED)
    wanted = plan.revision or (before.revision if before else "main")
    revision = _patiently(f"{plan.repo}: revision {wanted}", lambda: api.dataset_info(plan.repo, revision=wanted).sha)
    if not revision:
        raise CouldNotCheck(f"{plan.repo} names no commit for revision {wanted}.")
    if before and (before.repo, before.revision) != (plan.repo, revision):
        (partial / "manifest.json").unlink(missing_ok=True)
    manifest_path = _join(plan.prefix, "manifest.json")
    info = _infos(api, plan, revision, [manifest_path])[0]
    _download(plan, revision, info, partial, lambda _: None)
    digest = sha256_file(partial / info.name)
    if before and before.revision == revision and before.repo == plan.repo and before.manifest_sha256 != digest:
        raise CouldNotCheck(
            f"the manifest of {plan.repo} at {revision[:12]} is not the one that this fetch began with.",
            remedy=f"Remove {partial} and its files, then fetch again.",
        )
    paths, claimed = _wanted_paths(plan, partial / info.name)
    files = [info, *_infos(api, plan, revision, paths)]
    for file in files:
        stated = claimed.get(file.path) or claimed.get(file.name)
        if stated and file.digest.startswith("sha256:") and file.digest != f"sha256:{stated}":
            raise CouldNotCheck(f"{file.path}: manifest and repository state different digests.", remedy="Report it.")
    files = [_with_claim(file, claimed) for file in files]
    record = FetchRecord(plan.repo, plan.prefix, revision, plan.variant, digest, files)
    write_whole(partial / FETCHED, msgspec.json.format(msgspec.json.encode(record), indent=1))
    return record


def _with_claim(file: FileInfo, claimed: dict[str, str]) -> FileInfo:
    stated = claimed.get(file.path) or claimed.get(file.name)
    return FileInfo(file.path, file.size, f"sha256:{stated}") if stated else file


def _wanted_paths(plan: FetchPlan, manifest: Path) -> tuple[list[str], dict[str, str]]:
    """(repository paths, SHA-256 by path where the manifest states them)."""
    name = f"fineweb10B_{plan.variant}"
    try:
        content = msgspec.json.decode(manifest.read_bytes(), type=dict[str, Any])
        entry = next(e for e in content["datasets"] if e["name"] == name)
        trains, vals = int(entry["stats"]["files_train"]), int(entry["stats"]["files_val"])
        tokenizer = next(t for t in content["tokenizers"] if t["name"] == entry["tokenizer_name"])
        models = [str(tokenizer[key]) for key in ("model_path", "path") if tokenizer.get(key)]
        claimed = {str(path): str(digest) for path, digest in dict(entry.get("sha256") or {}).items()}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, StopIteration):
        raise CouldNotCheck(
            f"the manifest of {plan.repo} does not describe {name}.", remedy="Check the repository and its prefix."
        ) from None
    if not models or vals < 1:
        raise CouldNotCheck(f"the manifest of {plan.repo} lists no tokenizer file or no validation shard of {name}.")
    asked = trains if plan.train_shards is None else plan.train_shards
    if asked > trains:
        raise UsageError(f"--train-shards is {asked}; {name} has {trains}.")
    base = _join(plan.prefix, "datasets", name)
    paths = [f"{base}/fineweb_val_{i:06d}.bin" for i in range(vals)]
    paths += [f"{base}/fineweb_train_{i:06d}.bin" for i in range(asked)]
    paths += [_join(plan.prefix, model) for model in models]
    return paths + ([_join(plan.prefix, DOCS)] if plan.with_docs else []), claimed


def _infos(api: Any, plan: FetchPlan, revision: str, paths: list[str]) -> list[FileInfo]:
    found = {}
    for at in range(0, len(paths), 500):
        part = paths[at : at + 500]
        listed = _patiently(
            f"{plan.repo}: list of files",
            bound(api.get_paths_info, plan.repo, part, revision=revision, repo_type="dataset"),
        )
        for item in listed:
            lfs = getattr(item, "lfs", None)
            digest = f"sha256:{lfs.sha256}" if lfs else f"git:{item.blob_id}"
            found[item.path] = FileInfo(item.path, int(item.size), digest)
    missing = [path for path in paths if path not in found]
    if missing:
        raise CouldNotCheck(
            f"{plan.repo} at {revision[:12]} lacks {missing[0]} ({len(missing)} of {len(paths)} files).",
            remedy="Check the repository, the prefix and --train-shards.",
        )
    return [found[path] for path in paths]


def _check_disk(record: FetchRecord, partial: Path) -> None:
    needed = sum(file.size for file in record.files if not (partial / file.name).exists())
    free = shutil.disk_usage(partial).free
    if needed and needed + DISK_MARGIN_BYTES > free:
        raise CouldNotCheck(
            f"{partial.parent} has {free:,} bytes free; {needed:,} and a margin of {DISK_MARGIN_BYTES:,} are needed.",
            remedy="Free space, set GOLF_CACHE_DIR to another disk, or ask for fewer --train-shards.",
        )


def _download_all(plan: FetchPlan, record: FetchRecord, partial: Path, progress: Reporter) -> None:
    total, done = sum(file.size for file in record.files), 0
    with progress.stage(f"fetch {plan.variant}", total, "bytes") as stage:
        for file in record.files:
            base = done
            seen = 0

            def advance(amount: float, base: int = base, name: str = file.name) -> None:
                nonlocal seen
                seen += int(amount)
                stage.update(base + seen, name)

            _download(plan, record.revision, file, partial, advance)
            done += file.size
            stage.update(done, file.name)


def _download(plan: FetchPlan, revision: str, file: FileInfo, partial: Path, advance: Callable[[float], None]) -> None:
    """One file to its place in ``partial``; twice when its digest is wrong, since a proxy may have spoilt it."""
    from huggingface_hub import hf_hub_download
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        """Hands the downloader's progress on instead of drawing it."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **(kwargs | {"disable": True}))

        def update(self, n: float | None = 1) -> bool | None:
            advance(n or 0)
            return None

    target = partial / file.name
    if target.exists() and _digest_of(target, file) == file.digest:
        return
    target.unlink(missing_ok=True)
    store = partial / ".hub"
    for attempt in (1, 2):
        fetched = Path(
            _patiently(
                f"{plan.repo}: {file.path}",
                lambda: hf_hub_download(
                    plan.repo,
                    file.path,
                    repo_type="dataset",
                    revision=revision,
                    local_dir=store,
                    endpoint=plan.endpoint,
                    tqdm_class=Bar,
                ),
            )
        )
        found = _digest_of(fetched, file)
        if found == file.digest and fetched.stat().st_size == file.size:
            fetched.replace(target)
            return
        shutil.rmtree(store, ignore_errors=True)
        if attempt == 2:
            raise CouldNotCheck(
                f"{file.path} has digest {found[:23]}…, the manifest says {file.digest[:23]}…, in two downloads.",
                remedy="Do not use it; try again later or another revision.",
            )


def _digest_of(path: Path, file: FileInfo) -> str:
    """The file's digest in the form of ``file.digest``."""
    if file.digest.startswith("sha256:"):
        return f"sha256:{sha256_file(path)}"
    content = path.read_bytes()  # only small files lack a SHA-256
    return "git:" + hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _patiently(what: str, ask: Callable[[], _Result]) -> _Result:
    """Ask the hub, again after growing pauses for what may pass: no answer, 408, 429, 5xx, a cut transfer."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            with _quiet():
                return ask()
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            if getattr(error, "response", None) is not None:
                raise CouldNotCheck(f"{what} is not there.", remedy="Check repository, revision and prefix.") from None
            reason = _first_line(error)
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if 400 <= status < 500 and status not in (408, 429):
                raise CouldNotCheck(f"{what}: the hub answers {status}.", remedy="Check access and token.") from None
            reason = f"the hub answers {status}"
        except UsageError:
            raise
        except OSError as error:
            if error.errno is not None and error.filename:
                raise  # the disk, not the hub
            reason = _first_line(error)
        except Exception as error:  # transport errors of the client's HTTP library share no base with OSError
            if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
                raise
            reason = _first_line(error)
        if attempt + 1 < ATTEMPTS:
            time.sleep(min(30.0, pause_s() * 2**attempt))
    raise CouldNotCheck(
        f"{what} could not be fetched in {ATTEMPTS} tries: {reason}.",
        remedy="Check the network and run the same command again: it goes on where it stopped.",
    )


def pause_s() -> float:
    """Seconds before the second try; doubled before each further one."""
    return 1.0


@contextmanager
def _quiet() -> Iterator[None]:
    """The hub's own warnings and bars would break the progress lines."""
    import logging

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _join(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def _read_record(path: Path) -> FetchRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=FetchRecord)
    except (OSError, msgspec.DecodeError):
        return None


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
    shutil.rmtree(partial / ".hub", ignore_errors=True)
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
