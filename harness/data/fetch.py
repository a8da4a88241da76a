"""Published exports from the Hugging Face hub: by their manifest, at a pinned revision, resumable, every byte checked.

Files gather in a hidden folder beside the final one and stay there after a failure, so that the next try goes on; the
final name appears only when every digest is right. ``fetch.json`` records repository, revision and digests.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial as partial_call
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import numpy as np
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from tqdm import tqdm  # type: ignore[import-untyped]

from harness.data import dataset
from harness.data.build import Baselines, folder_lock
from harness.data.byte_check import shard_overlap
from harness.data.documents import Documents, ledger_of, load_tokenizer
from harness.errors import CouldNotCheck, UsageError
from harness.files import file_digest, write_atomic
from harness.progress import Reporter

DEFAULT_REPO = "willdepueoai/parameter-golf"
DEFAULT_PREFIX = "datasets"
EXPORTED, FETCHED, DOCS = "manifest.json", "fetch.json", "docs_selected.jsonl"
SHOW_EVERY, BLOCK = 256, 1 << 24
DISK_MARGIN_BYTES = 256_000_000
ATTEMPTS, PAUSE_S = 5, 1.0  # before the second try; doubled before each further one
ENDPOINT: str | None = None  # another address of the hub; None: the client's own setting
PARTS = ".hub"  # folder of unfinished downloads, beside the finished ones
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests")
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

    def is_at(self, path: Path) -> bool:
        """Whether ``path`` has this file's size and digest."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.digest.startswith("sha256:"):
            return self.digest == f"sha256:{file_digest(path)}"
        content = path.read_bytes()  # only small files lack a SHA-256
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return self.digest == f"git:{found.hexdigest()}"


class FetchRecord(msgspec.Struct, frozen=True):
    """What was fetched, from where; written before the first file, so that a later try asks for the same.

    files: the export's manifest, then all that it names
    """

    repo: str
    prefix: str
    revision: str
    variant: str
    files: list[FileInfo]


def fetch(
    variant: str,
    folder: Path,
    progress: Reporter,
    *,
    train_shards: int | None = None,
    with_docs: bool = False,
    revision: str | None = None,
) -> FetchRecord:
    """Fetch into ``folder``; what is there already and right is not fetched again.

    revision: a branch, tag or commit; whatever it is, one commit is pinned and recorded
    Raises ``CouldNotCheck`` for no network, a wrong digest, too little disk, a manifest that changed or lacks the
    variant; ``UsageError`` for more shards than there are, or a fetch without documents into a folder that holds a data
    set made with them.
    """
    partial, old = (folder.parent / f".{word}-{folder.name}" for word in ("partial", "old"))
    with folder_lock(folder):
        if not with_docs and (folder / dataset.MANIFEST).is_file():
            lost = f"its byte ledger and {dataset.MANIFEST}"
            text = f"{folder} holds a complete data set; a fetch without documents would take {lost}."
            raise UsageError(text, remedy="Add --with-docs to change its shards, or remove the folder first.")
        # 1. What an earlier fetch left complete serves this one.
        partial.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_file() and path.name != dataset.MANIFEST and not (partial / path.name).exists():
                try:
                    os.link(path, partial / path.name)
                except OSError:
                    shutil.copy2(path, partial / path.name)
        # 2. Which files, with which digests; is there room for them?
        record = plan_files(variant, partial, train_shards, with_docs, revision)
        needed = sum(file.size for file in record.files if not (partial / file.name).exists())
        free = shutil.disk_usage(partial).free
        if needed and needed + DISK_MARGIN_BYTES > free:
            wanted = f"{needed:,} and a margin of {DISK_MARGIN_BYTES:,}"
            text = f"{partial.parent} has {free:,} bytes free; {wanted} are needed."
            remedy = "Free space, set GOLF_CACHE_DIR to another disk, or ask for fewer --train-shards."
            raise CouldNotCheck(text, remedy=remedy)
        # 3. Each file, checked; and only what the record names goes under the final name.
        done = 0
        with progress.stage(f"fetch {variant}", sum(file.size for file in record.files), "bytes") as stage:
            for file in record.files:
                show = partial_call(lambda before, name, got: stage.update(before + got, name), done, file.name)
                download(record.repo, record.revision, file, partial, show)
                done += file.size
                stage.update(done, file.name)
        shutil.rmtree(partial / PARTS, ignore_errors=True)
        for path in partial.iterdir():
            if path.is_file() and path.name not in {FETCHED, *(file.name for file in record.files)}:
                path.unlink()
        if with_docs:
            complete(partial, record, progress)
        # 4. The new folder takes the place of the old one.
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    return record


def plan_files(
    variant: str, partial: Path, train_shards: int | None, with_docs: bool, wanted: str | None
) -> FetchRecord:
    """Pin the revision, read its manifest, list the files with their digests; the result is kept in ``partial``.

    A started fetch keeps its revision. Raises ``CouldNotCheck`` for a manifest that changed or lacks the variant.
    """
    name, repo = f"fineweb10B_{variant}", os.environ.get("MATCHED_FINEWEB_REPO_ID", DEFAULT_REPO)
    prefix = os.environ.get("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", DEFAULT_PREFIX).strip("/")
    below = f"{prefix}/" if prefix else ""
    try:
        before = msgspec.json.decode((partial / FETCHED).read_bytes(), type=FetchRecord)
    except (OSError, msgspec.DecodeError):
        before = None
    wanted = wanted or (before.revision if before else "main")
    pinned = _patiently(f"{repo}: revision {wanted}", lambda: HfApi(ENDPOINT).dataset_info(repo, revision=wanted))
    revision = str(pinned.sha)
    if before and (before.repo, before.revision) != (repo, revision):
        (partial / EXPORTED).unlink(missing_ok=True)
        before = None
    (manifest,) = describe(repo, revision, [below + EXPORTED])
    if before and before.files[0] != manifest:
        text = f"the manifest of {repo} at {revision[:12]} is not the one that this fetch began with."
        raise CouldNotCheck(text, remedy=f"Remove {partial} and its files, then fetch again.")
    download(repo, revision, manifest, partial)
    try:
        content = msgspec.json.decode((partial / EXPORTED).read_bytes(), type=dict[str, Any])
        entry = next(e for e in content["datasets"] if e["name"] == name)
        trains, vals = int(entry["stats"]["files_train"]), int(entry["stats"]["files_val"])
        tokenizer = next(t for t in content["tokenizers"] if t["name"] == entry["tokenizer_name"])
        models = [str(tokenizer[key]) for key in ("model_path", "path") if tokenizer.get(key)]
        claimed = {str(path): str(digest) for path, digest in dict(entry.get("sha256") or {}).items()}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, StopIteration):
        text = f"the manifest of {repo} does not describe {name}."
        raise CouldNotCheck(text, remedy="Check the repository and its prefix.") from None
    if not models or vals < 1:
        text = f"the manifest of {repo} lists no tokenizer file or no validation shard of {name}."
        raise CouldNotCheck(text, remedy="Choose another variant or revision.")
    if (asked := trains if train_shards is None else train_shards) > trains:
        raise UsageError(f"--train-shards is {asked}; {name} has {trains}.", remedy="Ask for at most that many.")
    paths = [f"{below}datasets/{name}/fineweb_val_{i:06d}.bin" for i in range(vals)]
    paths += [f"{below}datasets/{name}/fineweb_train_{i:06d}.bin" for i in range(asked)]
    paths += [below + path.strip("/") for path in (*models, *([DOCS] if with_docs else []))]
    files = [manifest, *describe(repo, revision, paths)]
    for at, file in enumerate(files):
        stated = claimed.get(file.path) or claimed.get(file.name)  # the manifest's word counts
        if stated and file.digest.startswith("sha256:") and file.digest != f"sha256:{stated}":
            raise CouldNotCheck(f"{file.path}: manifest and repository state different digests.", remedy="Report it.")
        if stated:
            files[at] = FileInfo(file.path, file.size, f"sha256:{stated}")
    record = FetchRecord(repo, prefix, revision, variant, files)
    write_atomic(partial / FETCHED, msgspec.json.format(msgspec.json.encode(record), indent=1), replace=True)
    return record


def complete(folder: Path, record: FetchRecord, progress: Reporter) -> None:
    """A data set from a fetched export and its documents: the ledger beside the shards, then ``dataset.json``.

    Raises ``CouldNotCheck`` when the documents, tokenised again, are not the validation shards token for token.
    """
    names = [file.name for file in record.files if file.name not in (EXPORTED, DOCS)]
    model = next(name for name in names if name.endswith((".model", ".json")))
    tokenizer, shards = load_tokenizer(folder / model), dataset.find_shards(folder, "val")
    tokens = dataset.join_values(shards)
    documents = int(np.count_nonzero(tokens == tokenizer.bos_id))
    texts = Baselines()

    def counted(number: int, text: str) -> None:
        texts.add(text.encode())
        if number % SHOW_EVERY == 0:
            stage.update(number)

    with progress.stage("byte ledger", documents, "documents") as stage:
        ledger, end, seen = ledger_of(islice(Documents([folder / DOCS]), documents), tokens, tokenizer, counted)
    if end != len(tokens) or int(ledger.sum()) != texts.raw:
        raise CouldNotCheck(
            f"document {seen:,} of {DOCS} is not what the validation shards hold from token {end:,} on.",
            remedy="The export's documents and shards do not belong together; try another revision.",
        )
    written = {}
    for path in shards:
        part, ledger = np.split(ledger, [len(dataset.map_values(path))])
        name = path.name.replace("_val_", "_val_bytes_")
        (folder / name).unlink(missing_ok=True)
        written[name] = dataset.write_shard(folder / name, part)
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for path in dataset.find_shards(folder, "train"):
        values = dataset.map_values(path)
        dataset.refuse_foreign_tokens(values, tokenizer.vocab_size, path)
        for start in range(0, len(values), BLOCK):  # bincount makes 8 bytes of each value
            counts += np.bincount(values[start : start + BLOCK], minlength=tokenizer.vocab_size)
    targets = np.bincount(tokens[1:], minlength=tokenizer.vocab_size).astype(np.int64)
    manifest = dataset.Manifest(
        version=1,
        name=f"fineweb_{record.variant}",
        source={"repo": record.repo, "revision": record.revision, "prefix": record.prefix},
        tokenizer=model,
        vocab_size=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        val_documents=documents,
        val_bytes=texts.raw,
        val_tokens=len(tokens),
        train_documents=int(counts[tokenizer.bos_id]),
        train_bytes=None,
        train_tokens=int(counts.sum()),
        baselines_bpb=texts.bpb(counts, targets),
        disjoint=shard_overlap(folder, tokenizer, progress, near=False),
        files={name: file_digest(folder / name) for name in sorted(names)} | written,
    )
    dataset.write_manifest(folder, manifest)


def describe(repo: str, revision: str, paths: Sequence[str]) -> list[FileInfo]:
    """Size and digest of each path. Raises ``CouldNotCheck`` that names the first one that is not there."""
    listed = _patiently(
        f"{repo}: list of files",
        lambda: HfApi(ENDPOINT).get_paths_info(repo, list(paths), revision=revision, repo_type="dataset"),
    )
    found = {}
    for item in listed:
        if isinstance(item, RepoFile):
            digest = f"sha256:{item.lfs.sha256}" if item.lfs else f"git:{item.blob_id}"
            found[item.path] = FileInfo(item.path, item.size, digest)
    if missing := [path for path in paths if path not in found]:
        text = f"{repo} at {revision[:12]} lacks {missing[0]} ({len(missing)} of {len(paths)} files)."
        raise CouldNotCheck(text, remedy="Check the repository, the prefix and --train-shards.")
    return [found[path] for path in paths]


def download(
    repo: str, revision: str, file: FileInfo, folder: Path, shown: Callable[[float], None] = lambda _: None
) -> None:
    """One file into ``folder``; twice when its digest is wrong, since a proxy may have spoilt it.

    shown: told how many bytes of it are there
    Raises ``CouldNotCheck`` for a wrong digest in both downloads; a part of a file stays and is gone on with.
    """

    class Bar(tqdm):  # type: ignore[misc]
        """Hands the downloader's progress on instead of drawing it."""

        def __init__(self, *args: Any, name: str = "", initial: float = 0, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"disable": True}))
            self.got = initial

        def update(self, n: float | None = 1) -> bool | None:
            self.got += n or 0
            shown(self.got)
            return None

    def ask() -> str:
        return hf_hub_download(
            repo, file.path, repo_type="dataset", revision=revision, local_dir=store, endpoint=ENDPOINT, tqdm_class=Bar
        )

    target, store = folder / file.name, folder / PARTS
    if file.is_at(target):
        return
    target.unlink(missing_ok=True)
    for _ in range(2):
        fetched = Path(_patiently(f"{repo}: {file.path}", ask))
        if file.is_at(fetched):
            fetched.replace(target)
            return
        shutil.rmtree(store, ignore_errors=True)
    text = f"{file.path} has not the digest {file.digest[:23]}… that its manifest states, in two downloads."
    raise CouldNotCheck(text, remedy="Do not use it; try again later or another revision.")


def _patiently(what: str, ask: Callable[[], _Result]) -> _Result:
    """Ask the hub, again after growing pauses for what may pass: no answer, 408, 429, 5xx, a cut transfer."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings would break the progress lines
    reason = ""
    for attempt in range(ATTEMPTS):
        time.sleep(min(30.0, PAUSE_S * 2 ** (attempt - 1)) if attempt else 0.0)
        try:
            return ask()
        except Exception as error:
            reply = getattr(error, "response", None)
            status = 0 if reply is None else reply.status_code
            if status and isinstance(error, EntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
                raise CouldNotCheck(f"{what} is not there.", remedy="Check repository, revision and prefix.") from None
            if 400 <= status < 500 and status not in (408, 429):
                raise CouldNotCheck(f"{what}: the hub answers {status}.", remedy="Check access and token.") from None
            disk = isinstance(error, OSError) and error.errno is not None and error.filename
            # transport errors of the client's HTTP library share no base with OSError
            if disk or not (isinstance(error, OSError) or type(error).__module__.split(".")[0] in _TRANSPORTS):
                raise
            words = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"the hub answers {status}" if status else words[0][:200]
    text = f"{what} could not be fetched in {ATTEMPTS} tries: {reason}."
    raise CouldNotCheck(text, remedy="Check the network and run the same command again: it goes on where it stopped.")
