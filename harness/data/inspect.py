"""What a folder of shards or a single shard holds: headers, counts, digests, first tokens, and whether it is sane.

It works on built data sets and on plain folders of published shards alike; a tokenizer makes the texts readable.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from harness.data.dataset import MANIFEST, read_manifest
from harness.data.encoding import load_tokenizer
from harness.data.shards import DTYPES, SHARD_NAME, map_values, read_head
from harness.data.sources import dataset_tokenizer
from harness.data.tokenizers import Tokenizer
from harness.errors import CouldNotCheck, HarnessError
from harness.files import file_digest
from harness.progress import Reporter
from harness.rules import Finding, Verdict

FIRST_TOKENS = 48
BLOCK = 1 << 24
BOS = 1


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
    place = tokenizer_file or (str(path / manifest.tokenizer) if manifest else None)
    tokenizer = load_tokenizer(place) if place else None
    if manifest and not tokenizer_file:
        tokenizer = dataset_tokenizer(path, manifest)
    bos_id = tokenizer.bos_id if tokenizer else BOS
    total, done, shards = sum(f.stat().st_size for f in files), 0, []
    with progress.stage(f"inspect {path.name}", total, "bytes") as stage:
        for file in files:
            shards.append(_look(file, tokenizer, bos_id, digests))
            done += file.stat().st_size
            stage.update(done, file.name)
    findings = _judge(shards, tokenizer, bos_id)
    if manifest:
        wrong = [s.file for s in shards if digests and manifest.files.get(s.file) != s.sha256]
        text = f"{', '.join(wrong)} differ from {MANIFEST}" if wrong else f"every digest is that of {MANIFEST}"
        findings.append(_verdict(not wrong and digests, text if digests else "digests were not asked for"))
    return Inspection(str(path), place or "", tokenizer.vocab_size if tokenizer else None, shards, findings)


def _verdict(good: bool, text: str) -> Finding:
    return Finding("A7-BYTES", Verdict.PASS if good else Verdict.FAIL, text + ".")


def _look(file: Path, tokenizer: Tokenizer | None, bos_id: int, digests: bool) -> ShardReport:
    version, count = read_head(file)
    values = map_values(file)
    match = SHARD_NAME.fullmatch(file.name)
    part = match["part"] if match else "train"
    is_ledger = part == "val_bytes"
    documents = largest = total = 0
    for at in range(0, count, BLOCK):
        block = values[at : at + BLOCK]
        largest = max(largest, int(block.max()))
        documents += 0 if is_ledger else int(np.count_nonzero(block == bos_id))
        total += int(block.sum(dtype=np.int64)) if is_ledger else 0
    first = values[:FIRST_TOKENS].astype(np.int64)
    text = ""
    if tokenizer and not is_ledger and int(first.max(initial=0)) < tokenizer.vocab_size:
        text = tokenizer.decode(first).decode(errors="replace")
    return ShardReport(
        file=file.name,
        part=part,
        version=version,
        values=count,
        documents=documents,
        largest=largest,
        sum=total if is_ledger else None,
        sha256=file_digest(file) if digests else "",
        first=first[:12].tolist(),
        text=text,
    )


def _judge(shards: list[ShardReport], tokenizer: Tokenizer | None, bos_id: int) -> list[Finding]:
    tokens = [shard for shard in shards if shard.part != "val_bytes"]
    findings = []
    if tokenizer:
        foreign = [s for s in tokens if s.largest >= tokenizer.vocab_size]
        text = f"every token is under {tokenizer.vocab_size:,}"
        if foreign:
            text = f"{foreign[0].file} holds token {foreign[0].largest}: wrong tokenizer for these shards"
        findings.append(_verdict(not foreign, text))
    for part in ("train", "val"):
        first = next((s for s in tokens if s.part == part), None)
        if first:
            starts = first.first[:1] == [bos_id]
            findings.append(_verdict(starts, f"{part} {'begins' if starts else 'does not begin'} with BOS ({bos_id})"))
    empty = [s.file for s in tokens if s.values == 0]
    findings.append(_verdict(not empty, f"empty: {', '.join(empty)}" if empty else "no shard is empty"))
    lost = sorted({str(DTYPES[s.version]) for s in tokens if s.version != 1})
    if lost:
        findings.append(_verdict(False, f"token shards of {', '.join(lost)}; wanted uint16"))
    ledger = [s for s in shards if s.part == "val_bytes"]
    if ledger:
        counts = sum(s.values for s in ledger), sum(s.values for s in tokens if s.part == "val")
        findings.append(_verdict(counts[0] == counts[1], f"{counts[0]:,} ledger entries, {counts[1]:,} tokens"))
    return findings


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
