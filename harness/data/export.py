"""What an export of the challenge is: which files its manifest lists, with their digests, at one pinned commit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.data.hub import FileInfo, Hub
from harness.errors import CouldNotCheck, UsageError
from harness.files import file_digest, write_atomic

DEFAULT_REPO = "willdepueoai/parameter-golf"
DEFAULT_PREFIX = "datasets"
VARIANTS = ("sp1024", "sp4096", "sp8192", "byte260")
FETCHED = "fetch.json"
DOCS = "docs_selected.jsonl"


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
            raise UsageError(
                f"--train-shards is {train_shards}; wanted 0 or more.",
                remedy="0 fetches validation only; leave it out for all.",
            )
        return FetchPlan(
            variant=variant,
            train_shards=train_shards,
            with_docs=with_docs,
            revision=revision,
            repo=os.environ.get("MATCHED_FINEWEB_REPO_ID", DEFAULT_REPO),
            prefix=os.environ.get("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", DEFAULT_PREFIX).strip("/"),
        )


def plan_files(plan: FetchPlan, partial: Path) -> FetchRecord:
    """Pin the revision, read its manifest, list the files with their digests; the result is kept in ``partial``.

    A started fetch keeps its revision. Raises ``CouldNotCheck`` for a manifest that changed or lacks the variant.
    """
    hub = Hub(plan.repo, plan.endpoint)
    before = _read_record(partial / FETCHED)
    revision = hub.commit(plan.revision or (before.revision if before else "main"))
    if before and (before.repo, before.revision) != (plan.repo, revision):
        (partial / "manifest.json").unlink(missing_ok=True)
    (manifest,) = hub.describe(revision, [_join(plan.prefix, "manifest.json")])
    hub.download(revision, manifest, partial, lambda _: None)
    digest = file_digest(partial / manifest.name)
    if before and before.revision == revision and before.repo == plan.repo and before.manifest_sha256 != digest:
        raise CouldNotCheck(
            f"the manifest of {plan.repo} at {revision[:12]} is not the one that this fetch began with.",
            remedy=f"Remove {partial} and its files, then fetch again.",
        )
    paths, claimed = _wanted_paths(plan, partial / manifest.name)
    files = [_with_claim(file, claimed) for file in (manifest, *hub.describe(revision, paths))]
    record = FetchRecord(plan.repo, plan.prefix, revision, plan.variant, digest, files)
    write_atomic(partial / FETCHED, msgspec.json.format(msgspec.json.encode(record), indent=1), replace=True)
    return record


def _with_claim(file: FileInfo, claimed: dict[str, str]) -> FileInfo:
    """The file with the digest that the manifest states, where it states one."""
    stated = claimed.get(file.path) or claimed.get(file.name)
    if stated and file.digest.startswith("sha256:") and file.digest != f"sha256:{stated}":
        raise CouldNotCheck(f"{file.path}: manifest and repository state different digests.", remedy="Report it.")
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
        raise CouldNotCheck(
            f"the manifest of {plan.repo} lists no tokenizer file or no validation shard of {name}.",
            remedy="Choose another variant or revision.",
        )
    asked = trains if plan.train_shards is None else plan.train_shards
    if asked > trains:
        raise UsageError(f"--train-shards is {asked}; {name} has {trains}.", remedy="Ask for at most that many.")
    base = _join(plan.prefix, "datasets", name)
    paths = [f"{base}/fineweb_val_{i:06d}.bin" for i in range(vals)]
    paths += [f"{base}/fineweb_train_{i:06d}.bin" for i in range(asked)]
    paths += [_join(plan.prefix, model) for model in models]
    return paths + ([_join(plan.prefix, DOCS)] if plan.with_docs else []), claimed


def _join(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def _read_record(path: Path) -> FetchRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=FetchRecord)
    except (OSError, msgspec.DecodeError):
        return None
