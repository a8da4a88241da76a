"""The hub as it is: asked patiently, files by their digests, each download checked before it gets its place."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from harness.errors import CouldNotCheck
from harness.files import file_digest

ATTEMPTS, PAUSE_S = 5, 1.0  # before the second try; doubled before each further one
ENDPOINT: str | None = None  # another address of the hub; None: the client's own setting
PARTS = ".hub"
"""Folder of unfinished downloads, beside the finished ones."""
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


def find_commit(repo: str, wanted: str) -> str:
    """The commit behind a branch, tag or commit. Raises ``CouldNotCheck`` when there is none."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=ENDPOINT)
    return str(_patiently(f"{repo}: revision {wanted}", lambda: api.dataset_info(repo, revision=wanted)).sha)


def describe(repo: str, revision: str, paths: Sequence[str]) -> list[FileInfo]:
    """Size and digest of each path. Raises ``CouldNotCheck`` that names the first one that is not there."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=ENDPOINT)
    listed = _patiently(
        f"{repo}: list of files",
        lambda: api.get_paths_info(repo, list(paths), revision=revision, repo_type="dataset"),
    )
    found = {}
    for item in (item for item in listed if isinstance(item, RepoFile)):
        digest = f"sha256:{item.lfs.sha256}" if item.lfs else f"git:{item.blob_id}"
        found[item.path] = FileInfo(item.path, item.size, digest)
    missing = [path for path in paths if path not in found]
    if missing:
        raise CouldNotCheck(
            f"{repo} at {revision[:12]} lacks {missing[0]} ({len(missing)} of {len(paths)} files).",
            remedy="Check the repository, the prefix and --train-shards.",
        )
    return [found[path] for path in paths]


def download(
    repo: str, revision: str, file: FileInfo, folder: Path, shown: Callable[[float], None] = lambda _: None
) -> None:
    """One file into ``folder``; twice when its digest is wrong, since a proxy may have spoilt it.

    shown: told how many bytes of it are there
    Raises ``CouldNotCheck`` for a wrong digest in both downloads; a part of a file stays and is gone on with.
    """
    from huggingface_hub import hf_hub_download
    from tqdm import tqdm  # type: ignore[import-untyped]

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
            repo,
            file.path,
            repo_type="dataset",
            revision=revision,
            local_dir=store,
            endpoint=ENDPOINT,
            tqdm_class=Bar,
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
    raise CouldNotCheck(
        f"{file.path} has not the digest {file.digest[:23]}… that its manifest states, in two downloads.",
        remedy="Do not use it; try again later or another revision.",
    )


def _patiently(what: str, ask: Callable[[], _Result]) -> _Result:
    """Ask the hub, again after growing pauses for what may pass: no answer, 408, 429, 5xx, a cut transfer."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

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
    raise CouldNotCheck(
        f"{what} could not be fetched in {ATTEMPTS} tries: {reason}.",
        remedy="Check the network and run the same command again: it goes on where it stopped.",
    )
