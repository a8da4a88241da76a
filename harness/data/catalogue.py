"""Data sets by name: the embedded corpus, the published exports, or any built folder by path."""

from __future__ import annotations

from pathlib import Path

from harness.data.build import folder_lock
from harness.data.dataset import MANIFEST, Dataset, fingerprint, open_folder, read_manifest
from harness.errors import UsageError
from harness.progress import Reporter

PUBLISHED = {f"fineweb_{variant}": variant for variant in ("sp1024", "sp4096", "sp8192", "byte260")}
BUILD_WAIT_S = 600.0


def open_dataset(name: str, folder: Path, progress: Reporter) -> Dataset:
    """Open a data set and check its digests; ``sotu`` is built at its first use, a second use builds nothing.

    name:   ``sotu``; ``fineweb_sp1024`` and its like once fetched; the name or the path of a set that was built
    folder: where named data sets are kept
    Raises ``UsageError`` for an unknown name, ``CouldNotCheck`` for a data set that is not there or is damaged.
    """
    if name == "sotu":
        return _open_sotu(folder, progress)
    if name in PUBLISHED:
        return _open_published(name, folder, progress)
    for path in (folder / name, Path(name).expanduser()):
        if (path / MANIFEST).is_file():
            return open_folder(path.absolute(), progress)
    path = Path(name).expanduser()
    if path.is_dir() or "/" in name:
        raise UsageError(
            f"{name} is no data set: it has no {MANIFEST}.", remedy="`harness data build` makes one; see its --help."
        )
    known = ", ".join(["sotu", *PUBLISHED])
    raise UsageError(f"unknown data set {name!r}.", remedy=f"Known: {known}, or the path of a built folder.")


def stated_fingerprint(name: str, folder: Path) -> str:
    """What tells the content of the set that :func:`open_dataset` would open from any other, without reading it.

    That is the fingerprint its ``dataset.json`` states, or the digest of the recipe of ``sotu``, which may not be built
    yet; "" where this host has no such set. Raises ``CouldNotCheck`` for a malformed ``dataset.json``.
    """
    from harness.data.sotu import recipe_digest

    if name == "sotu":
        return recipe_digest()
    for path in (folder / name, Path(name).expanduser()):
        if (path / MANIFEST).is_file():
            return fingerprint(read_manifest(path).files)
    return ""


def _open_sotu(folder: Path, progress: Reporter) -> Dataset:
    from harness.data.sotu import NAME, build_sotu, recipe_digest

    place = folder / f"{NAME}-{recipe_digest()[:12]}"
    if not (place / MANIFEST).is_file():
        with folder_lock(place, wait_s=BUILD_WAIT_S):  # first runs that start together share one build
            if not (place / MANIFEST).is_file():
                build_sotu(place, progress)
    return open_folder(place, progress)


def _open_published(name: str, folder: Path, progress: Reporter) -> Dataset:
    place = folder / name
    if not (place / MANIFEST).is_file():
        raise UsageError(
            f"data set {name} is not in {folder}.",
            remedy=f"Fetch it: harness data fetch --variant {PUBLISHED[name]} --with-docs.",
        )
    return open_folder(place, progress)
