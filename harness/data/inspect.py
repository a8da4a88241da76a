"""What a folder of shards or a single shard holds: headers, counts, digests, first tokens, and whether it is sane.

It works on built data sets and on plain folders of published shards alike; a tokenizer makes the texts readable.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from harness.data.dataset import MANIFEST, read_manifest
from harness.data.encoding import folder_tokenizer
from harness.data.shards import DTYPES, SHARD_NAME, map_values, read_head
from harness.data.tokenizers import Tokenizer
from harness.errors import CouldNotCheck, HarnessError
from harness.files import file_digest
from harness.progress import Reporter
from harness.rules import Finding, Verdict

FIRST_TOKENS = 48
BLOCK = 1 << 24
BOS = 1
LEDGER = "val_bytes"


class ShardReport(msgspec.Struct, frozen=True):
    """One shard. ``documents`` counts BOS tokens; ``sum`` is set for a byte ledger, ``sha256`` when asked for."""

    file: str
    part: str
    version: int
    values: int
    documents: int
    largest: int
    sum: int | None
    sha256: str
    first: list[int]
    text: str


class Inspection(msgspec.Struct, frozen=True):
    """All shards of a path, and verdicts on them."""

    path: str
    tokenizer: str
    vocab_size: int | None
    shards: list[ShardReport]
    findings: list[Finding]

    @property
    def broken(self) -> bool:
        """Whether something is wrong."""
        return any(finding.verdict is Verdict.FAIL for finding in self.findings)


def inspect_path(path: Path, tokenizer_file: str | None, progress: Reporter, *, digests: bool = True) -> Inspection:
    """Look at a shard or a folder. Raises ``CouldNotCheck`` for a path without shards or a damaged shard."""
    files = [path] if path.is_file() else sorted(p for p in path.glob("*.bin") if SHARD_NAME.fullmatch(p.name))
    if not files:
        raise CouldNotCheck(f"{path} holds no shard.", remedy="Give a .bin file or a folder of them.")
    manifest = read_manifest(path) if (path / MANIFEST).is_file() else None
    place = tokenizer_file or (str(path / manifest.tokenizer) if manifest else "")
    tokenizer = folder_tokenizer(path, tokenizer_file)
    bos_id = tokenizer.bos_id if tokenizer else BOS
    total, done, shards = sum(f.stat().st_size for f in files), 0, []
    with progress.stage(f"inspect {path.name}", total, "bytes") as stage:
        for file in files:
            shards.append(_look(file, tokenizer, bos_id, digests))
            done += file.stat().st_size
            stage.update(done, file.name)
    tokens = [shard for shard in shards if shard.part != LEDGER]
    sane: list[tuple[bool, str]] = []
    if tokenizer:
        foreign = [f"{s.file} holds token {s.largest}" for s in tokens if s.largest >= tokenizer.vocab_size]
        text = f"{foreign[0]}: wrong tokenizer for these shards" if foreign else f"under {tokenizer.vocab_size:,}"
        sane.append((not foreign, text if foreign else f"every token is {text}"))
    for part in ("train", "val"):
        if first := next((s for s in tokens if s.part == part), None):
            begins = first.first[:1] == [bos_id]
            sane.append((begins, f"{part} {'begins' if begins else 'does not begin'} with BOS ({bos_id})"))
    empty = [s.file for s in tokens if s.values == 0]
    sane.append((not empty, f"empty: {', '.join(empty)}" if empty else "no shard is empty"))
    if wide := sorted({str(DTYPES[s.version]) for s in tokens if s.version != 1}):
        sane.append((False, f"token shards of {', '.join(wide)}; wanted uint16"))
    if len(tokens) < len(shards):
        entries = sum(s.values for s in shards if s.part == LEDGER)
        count = sum(s.values for s in tokens if s.part == "val")
        sane.append((entries == count, f"{entries:,} ledger entries, {count:,} tokens"))
    if manifest and digests:
        wrong = [s.file for s in shards if manifest.files.get(s.file) != s.sha256]
        text = f"{', '.join(wrong)} differ from {MANIFEST}" if wrong else f"every digest is that of {MANIFEST}"
        sane.append((not wrong, text))
    findings = [Finding("A7-BYTES", Verdict.PASS if good else Verdict.FAIL, f"{text}.") for good, text in sane]
    if manifest and not digests:
        findings.append(Finding("A7-BYTES", Verdict.UNKNOWN, "digests were not asked for."))
    return Inspection(str(path), place, tokenizer.vocab_size if tokenizer else None, shards, findings)


def _look(file: Path, tokenizer: Tokenizer | None, bos_id: int, digests: bool) -> ShardReport:
    (version, count), values, match = read_head(file), map_values(file), SHARD_NAME.fullmatch(file.name)
    part = match["part"] if match else "train"
    documents = largest = total = 0
    for block in (values[at : at + BLOCK] for at in range(0, count, BLOCK)):
        largest = max(largest, int(block.max()))
        documents += int(np.count_nonzero(block == bos_id))
        total += int(block.sum(dtype=np.int64))
    first, text = values[:FIRST_TOKENS].astype(np.int64), ""
    if tokenizer and part != LEDGER and int(first.max(initial=0)) < tokenizer.vocab_size:
        text = tokenizer.decode(first).decode(errors="replace")
    return ShardReport(
        file=file.name,
        part=part,
        version=version,
        values=count,
        documents=0 if part == LEDGER else documents,
        largest=largest,
        sum=total if part == LEDGER else None,
        sha256=file_digest(file) if digests else "",
        first=first[:12].tolist(),
        text=text,
    )


def list_cached(folder: Path) -> list[tuple[str, str, str]]:
    """(folder name, data set, state) of each data set in a cache folder."""
    rows = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            manifest = read_manifest(path)
        except HarnessError as error:
            rows.append((path.name, "", error.message))
            continue
        rows.append((path.name, manifest.name, f"{manifest.val_tokens:,} val, {manifest.train_tokens:,} train tokens"))
    return rows
