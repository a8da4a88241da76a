"""Data sets: shards of tokens, and beside the validation shards how many raw bytes each token accounts for.

By name: the embedded corpus, the published exports, or any built folder by path.
"""

from pathlib import Path

from harness.data.build import folder_lock
from harness.data.dataset import MANIFEST, Dataset, Validation, load_validation, open_folder, read_manifest
from harness.data.sotu import build_sotu, recipe_digest
from harness.errors import UsageError
from harness.fineweb import EXPORTS
from harness.progress import Reporter

__all__ = ["Dataset", "Validation", "load_validation", "open_dataset", "stated_fingerprint"]

BUILD_WAIT_S = 600.0
PUBLISHED = tuple(f"fineweb_{variant}" for variant in EXPORTS)


def open_dataset(name: str, folder: Path, progress: Reporter) -> Dataset:
    """Open a data set and check its digests; ``sotu`` is built at its first use, a second use builds nothing.

    name:   ``sotu``; ``fineweb_sp1024`` and its like once fetched; the name or the path of a set that was built
    folder: where named data sets are kept
    Raises ``UsageError`` for an unknown name, ``CouldNotCheck`` for a data set that is not there or is damaged.
    """
    place = _place(name, folder)
    if name == "sotu" and not (place / MANIFEST).is_file():
        with folder_lock(place, wait_s=BUILD_WAIT_S):  # first runs that start together share one build
            if not (place / MANIFEST).is_file():
                build_sotu(place, progress)
    if (place / MANIFEST).is_file():
        return open_folder(place, progress)
    if name in PUBLISHED:
        fetch = f"harness data fetch --variant {name.removeprefix('fineweb_')} --with-docs"
        remedy = f"Fetch it: {fetch}. Or give its folder's whole path."
        raise UsageError(f"data set {name} is not in {folder}.", remedy=remedy)
    if place.is_dir() or "/" in name:
        text = f"{name} is not a data set: it has no {MANIFEST}."
        raise UsageError(text, remedy="`harness data build` makes one; see its --help.")
    known = ", ".join(("sotu", *PUBLISHED))
    raise UsageError(f"unknown data set {name!r}.", remedy=f"Known: {known}, or the path of a built folder.")


def stated_fingerprint(name: str, folder: Path) -> str:
    """What tells the content of the set that :func:`open_dataset` would open from any other, without reading it.

    That is the fingerprint its ``dataset.json`` states, or the digest of the recipe of ``sotu``, which may not be built
    yet; "" where this host has no such set. Raises ``CouldNotCheck`` for a malformed ``dataset.json``.
    """
    if name == "sotu":
        return recipe_digest()
    place = _place(name, folder)
    return read_manifest(place).fingerprint if (place / MANIFEST).is_file() else ""


def _place(name: str, folder: Path) -> Path:
    """Where the set of that name lies or would lie: among the named ones, or by its path."""
    if name == "sotu":
        return folder / f"sotu-{recipe_digest()[:12]}"
    # A published name always means the cache: a folder of that name in the working folder may be anybody's.
    if name in PUBLISHED or (folder / name / MANIFEST).is_file():
        return folder / name
    return Path(name).expanduser().absolute()
