"""The byte audit of a shard folder: documents against tokens, ledger against table, coverage, manifest, overlap."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from harness.data.byte_table import TableComparison, Tokens, compare_table, judge_space_marker, round_trip
from harness.data.dataset import MANIFEST, read_manifest
from harness.data.documents import Documents
from harness.data.encoding import Debt, encode_documents, load_tokenizer
from harness.data.overlap import OverlapAudit
from harness.data.shards import find_shards, join_values, map_values
from harness.data.sources import dataset_tokenizer
from harness.data.suspects import judge_coverage, judge_total, suspects
from harness.data.tokenizers import Bytes, Tokenizer
from harness.errors import CouldNotCheck, UsageError
from harness.fineweb import DOCUMENTS
from harness.progress import Reporter
from harness.rules import Finding, Verdict


@dataclass(frozen=True)
class ByteCheck:
    """What to audit. ``claimed_bytes`` and ``claimed_targets`` are what a submission divided by and scored."""

    folder: Path
    tokenizer: str | None = None
    documents: tuple[Path, ...] = ()
    field: str = "text"
    val_documents: int | None = None
    claimed_bytes: float | None = None
    tolerance: float = 0.0
    claimed_targets: int | None = None
    window: int = 0
    at_bpb: float = 1.0
    manifest: Path | None = None
    near: bool = False


class ByteReport(msgspec.Struct, frozen=True):
    """Findings, and table against ledger where both are known."""

    findings: list[Finding]
    comparison: TableComparison | None = None


def check_bytes(plan: ByteCheck, progress: Reporter) -> ByteReport:
    """Audit a folder of shards. Raises ``UsageError`` for what is missing, ``CouldNotCheck`` for damaged shards."""
    tokenizer = _tokenizer(plan)
    tokens = join_values(find_shards(plan.folder, "val"))
    if len(tokens) < 2:
        raise CouldNotCheck(f"{plan.folder} has no validation shards.", remedy="Give a folder with *_val_000000.bin.")
    if int(tokens.max()) >= tokenizer.vocab_size:
        raise CouldNotCheck(
            f"{plan.folder} holds token {int(tokens.max())}, {tokenizer.name} has {tokenizer.vocab_size:,}: "
            "wrong tokenizer for these shards.",
            remedy="--tokenizer names the right one.",
        )
    if tokens[0] != tokenizer.bos_id:
        raise CouldNotCheck(
            f"{plan.folder}: validation begins with token {tokens[0]}, not with BOS ({tokenizer.bos_id}).",
            remedy="The format has one BOS before each document; --tokenizer names the right tokenizer.",
        )
    ledger, findings = _stored_ledger(plan.folder, tokens)
    raw: bytes | None = None
    if plan.documents:
        more, ledger, raw = _against_documents(plan, tokens, tokenizer, ledger, progress)
        findings += more
    comparison = None
    if ledger is not None:
        comparison = compare_table(tokens, ledger, tokenizer, raw, window=plan.window, at_bpb=plan.at_bpb)
        findings += [f for f in [judge_space_marker(tokenizer, comparison)] if f]
        findings += _claims(plan, tokens, ledger, tokenizer, len(raw) if raw is not None else None)
    elif plan.claimed_bytes is not None:
        raise UsageError("a claim of bytes needs the documents or a ledger.", remedy="Give --docs.")
    if plan.claimed_targets is not None:
        findings.append(judge_coverage(plan.claimed_targets, tokens, tokenizer.bos_id, plan.window))
    if plan.manifest is not None:
        findings.append(check_manifest(plan.manifest, plan.folder, tokenizer.bos_id))
    if find_shards(plan.folder, "train"):
        findings.append(shard_overlap(plan.folder, tokenizer, progress, near=plan.near))
    return ByteReport(findings, comparison)


def _tokenizer(plan: ByteCheck) -> Tokenizer:
    if plan.tokenizer:
        return load_tokenizer(plan.tokenizer)
    if (plan.folder / MANIFEST).is_file():
        return dataset_tokenizer(plan.folder, read_manifest(plan.folder))
    raise UsageError(f"{plan.folder} does not say its tokenizer.", remedy="Give --tokenizer FILE.")


def _stored_ledger(folder: Path, tokens: Tokens) -> tuple[Bytes | None, list[Finding]]:
    paths = find_shards(folder, "val_bytes")
    if not paths:
        return None, []
    stored = join_values(paths)
    if len(stored) != len(tokens):
        text = f"the byte ledger has {len(stored):,} entries for {len(tokens):,} tokens."
        return None, [Finding("A7-BYTES", Verdict.FAIL, text, found="ledger-length")]
    ledger = stored[1:].astype(np.int64)
    if not (folder / MANIFEST).is_file():
        return ledger, []
    total, wanted = int(ledger.sum()), read_manifest(folder).val_bytes
    text = f"the ledger sums to {total:,} bytes, {MANIFEST} says {wanted:,}."
    return ledger, [Finding("A7-BYTES", Verdict.PASS if total == wanted else Verdict.FAIL, text)]


def _against_documents(
    plan: ByteCheck, tokens: Tokens, tokenizer: Tokenizer, stored: Bytes | None, progress: Reporter
) -> tuple[list[Finding], Bytes | None, bytes | None]:
    """Tokenise the documents again and compare token for token; the ledger follows from the documents alone.

    Returns findings, ledger, and the documents joined, where all are in the shards.
    """
    starts = np.flatnonzero(tokens == tokenizer.bos_id)
    count = plan.val_documents or len(starts)
    texts = list(islice(Documents(plan.documents, plan.field), count))
    ids: list[Tokens] = []
    sizes: list[Bytes] = []
    debt = Debt()
    with progress.stage("tokenize documents again", len(texts), "documents") as stage:
        for text, (own, amounts) in encode_documents(texts, tokenizer):
            ids.append(own)
            sizes.append(debt.settle(len(text.encode()), amounts))
            stage.update(len(ids))
    findings = [round_trip(texts, tokenizer).finding(tokenizer.name)]
    missing = _missing(ids, tokens, starts)
    whole = len(texts) == len(starts) and not missing
    text = f"{len(starts):,} documents in the shards, {len(texts):,} in the source, equal token for token"
    if not whole:
        where = f"document {missing[0]:,} is the first that is not there" if missing else "more than the source has"
        text = (
            f"{len(starts):,} documents in the shards, {len(texts):,} in the source: {len(missing):,} missing; {where}"
        )
    found = "" if whole else "documents-missing"
    findings.append(Finding("C4-COVERAGE", Verdict.PASS if whole else Verdict.FAIL, text + ".", found=found))
    if not whole:
        return findings, stored, None
    ledger = np.concatenate([np.concatenate(([0], own)) for own in sizes])[1:].astype(np.int64)
    if stored is not None and not np.array_equal(stored, ledger):
        place = int(np.flatnonzero(stored != ledger)[0])
        text = f"the stored ledger says {stored[place]} bytes for target {place:,}, the documents {ledger[place]}."
        findings.append(Finding("A7-BYTES", Verdict.FAIL, text, found="ledger-differs"))
    return findings, ledger, "".join(texts).encode()


def _missing(ids: Sequence[Tokens], tokens: Tokens, starts: Tokens) -> list[int]:
    """Documents of the source that the shards lack, by content."""
    ends = np.append(starts[1:], len(tokens))
    places = zip(starts, ends, strict=True)
    held = Counter(np.asarray(tokens[start + 1 : end], np.int64).tobytes() for start, end in places)
    missing = []
    for number, own in enumerate(ids):
        held[key := np.asarray(own, np.int64).tobytes()] -= 1
        if held[key] < 0:
            missing.append(number)
    return missing


def _claims(
    plan: ByteCheck, tokens: Tokens, ledger: Bytes, tokenizer: Tokenizer, raw_bytes: int | None
) -> list[Finding]:
    total = int(ledger.sum())
    if raw_bytes is not None and total != raw_bytes:
        text = f"the ledger sums to {total:,}, the documents hold {raw_bytes:,} bytes."
        return [Finding("A7-BYTES", Verdict.FAIL, text)]
    if plan.claimed_bytes is None:
        return []
    scored = plan.claimed_targets or len(ledger)
    ways = suspects(tokens[: scored + 1], ledger[:scored], tokenizer, total)
    return [judge_total(plan.claimed_bytes, plan.tolerance, ways)]


def shard_overlap(folder: Path, tokenizer: Tokenizer, progress: Reporter, *, near: bool) -> Finding:
    """Documents that stand in validation and in train shards: equal ones, with ``near`` also similar ones."""
    train = find_shards(folder, "train")

    def spell(ids: Tokens) -> bytes:
        return tokenizer.decode(ids.astype(np.int64)) if near else ids.astype("<u2").tobytes()

    def shown() -> Iterator[Tokens]:
        for number, path in enumerate(train):
            stage.update(number, path.name)
            yield map_values(path)

    audit = OverlapAudit(near=near)
    for document in _split([join_values(find_shards(folder, "val"))], tokenizer.bos_id):
        audit.add_validation(spell(document))
    with progress.stage("compare train with validation", len(train), "shards") as stage:
        for document in _split(shown(), tokenizer.bos_id):
            audit.add_train(spell(document))
    return audit.result.finding()


def _split(streams: Iterable[Tokens], bos_id: int) -> Iterator[Tokens]:
    """Documents without their BOS; one may run on from shard to shard."""
    held: list[Tokens] = []
    for stream in streams:
        cuts = np.flatnonzero(stream == bos_id)
        for start, end in zip(np.concatenate(([0], cuts)), np.append(cuts, len(stream)), strict=True):
            if start < end and stream[start] == bos_id:
                if held:
                    yield np.concatenate(held)
                held = [stream[start + 1 : end]]
            elif start < end:
                held.append(stream[start:end])
    if held:
        yield np.concatenate(held)


def check_manifest(path: Path, folder: Path, bos_id: int) -> Finding:
    """A published ``manifest.json`` against the shards: files, tokens, 50,000 validation documents [C4-COVERAGE]."""
    try:
        entries = json.loads(path.read_bytes())["datasets"]
        stats = next(e["stats"] for e in entries if e["name"] == folder.name or len(entries) == 1)
        wanted = {key: int(stats[key]) for key in ("docs_val", "files_val", "tokens_val")}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        raise CouldNotCheck(f"{path} holds no statistics of {folder.name}.", remedy="Give its manifest.json.") from None
    val = find_shards(folder, "val")
    tokens = join_values(val)
    found = {"docs_val": int((tokens == bos_id).sum()), "files_val": len(val), "tokens_val": len(tokens)}
    wrong = [
        f"{key} is {found[key]:,}, the manifest says {wanted[key]:,}" for key in wanted if found[key] != wanted[key]
    ]
    if wanted["docs_val"] != DOCUMENTS:
        wrong.append(f"the manifest's docs_val is {wanted['docs_val']:,}, the split has {DOCUMENTS:,} (#2127)")
    text = (
        "; ".join(wrong) if wrong else f"{found['docs_val']:,} documents, {len(tokens):,} tokens, as the manifest says"
    )
    name = "incomplete" if wrong else ""
    return Finding("C4-COVERAGE", Verdict.FAIL if wrong else Verdict.PASS, text + ".", found=name)
