"""The hub as it is: asked patiently, files by their digests, each download checked before it gets its place."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from harness.errors import CouldNotCheck, UsageError
from harness.files import file_digest

ATTEMPTS, PAUSE_S = 5, 1.0  # before the second try; doubled before each further one
PATHS_A_QUESTION = 500
PARTS = ".hub"
"""Folder of unfinished downloads, beside the finished ones."""
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


@dataclass(frozen=True)
class Hub:
    """One data set repository. ``endpoint``: another address of the hub; ``None`` for the client's own setting."""

    repo: str
    endpoint: str | None = None

    def commit(self, wanted: str) -> str:
        """The commit behind a branch, tag or commit. Raises ``CouldNotCheck`` when there is none."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint)
        found = _patiently(f"{self.repo}: revision {wanted}", lambda: api.dataset_info(self.repo, revision=wanted).sha)
        if not found:
            raise CouldNotCheck(
                f"{self.repo} names no commit for revision {wanted}.",
                remedy="Give a branch, tag or commit of it: --revision.",
            )
        return found

    def describe(self, revision: str, paths: Sequence[str]) -> list[FileInfo]:
        """Size and digest of each path. Raises ``CouldNotCheck`` that names the first one that is not there."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=self.endpoint)
        found = {}
        for at in range(0, len(paths), PATHS_A_QUESTION):
            part = list(paths[at : at + PATHS_A_QUESTION])
            listed = _patiently(
                f"{self.repo}: list of files",
                bound(api.get_paths_info, self.repo, part, revision=revision, repo_type="dataset"),
            )
            for item in (item for item in listed if isinstance(item, RepoFile)):
                digest = f"sha256:{item.lfs.sha256}" if item.lfs else f"git:{item.blob_id}"
                found[item.path] = FileInfo(item.path, item.size, digest)
        missing = [path for path in paths if path not in found]
        if missing:
            raise CouldNotCheck(
                f"{self.repo} at {revision[:12]} lacks {missing[0]} ({len(missing)} of {len(paths)} files).",
                remedy="Check the repository, the prefix and --train-shards.",
            )
        return [found[path] for path in paths]

    def download(self, revision: str, file: FileInfo, folder: Path, advance: Callable[[float], None]) -> None:
        """One file into ``folder``; twice when its digest is wrong, since a proxy may have spoilt it.

        advance: told the bytes that came in since its last call
        Raises ``CouldNotCheck`` for a wrong digest in both downloads; a part of a file stays and is gone on with.
        """
        target = folder / file.name
        if target.exists() and _digest_of(target, file) == file.digest:
            return
        target.unlink(missing_ok=True)
        store = folder / PARTS
        for attempt in (1, 2):
            fetched = self._fetch(revision, file, store, advance)
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

    def _fetch(self, revision: str, file: FileInfo, store: Path, advance: Callable[[float], None]) -> Path:
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

        def download() -> str:
            return hf_hub_download(
                self.repo,
                file.path,
                repo_type="dataset",
                revision=revision,
                local_dir=store,
                endpoint=self.endpoint,
                tqdm_class=Bar,
            )

        return Path(_patiently(f"{self.repo}: {file.path}", download))


def _digest_of(path: Path, file: FileInfo) -> str:
    """The file's digest in the form of ``file.digest``."""
    if file.digest.startswith("sha256:"):
        return f"sha256:{file_digest(path)}"
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

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings would break the progress lines
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
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
            time.sleep(min(30.0, PAUSE_S * 2**attempt))
    raise CouldNotCheck(
        f"{what} could not be fetched in {ATTEMPTS} tries: {reason}.",
        remedy="Check the network and run the same command again: it goes on where it stopped.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
