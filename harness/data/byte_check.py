"""What a shard folder holds, and its byte audit: documents, tokens, ledger, table, coverage, manifest, overlap."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from harness.data import byte_table, dataset
from harness.data.documents import Documents, folder_tokenizer, ledger_of
from harness.data.overlap import OverlapAudit
from harness.data.tokenizers import Tokenizer
from harness.errors import CouldNotCheck, UsageError
from harness.files import file_digest
from harness.fineweb import DOCUMENTS
from harness.progress import Reporter
from harness.rules import Finding, Verdict

FIRST_TOKENS = 48
BOS = 1
LEDGER = "val_bytes"
A7_BYTES, C4_COVERAGE = "A7-BYTES", "C4-COVERAGE"


class ByteReport(msgspec.Struct, frozen=True):
    """Findings, and table against ledger where both are known."""

    findings: list[Finding]
    comparison: byte_table.TableComparison | None = None


def check_bytes(
    folder: Path,
    progress: Reporter,
    *,
    tokenizer_file: str | None,
    documents: Sequence[Path],
    field: str,
    val_documents: int | None,
    claimed_bytes: float | None,
    tolerance: float = 0.0,
    claimed_targets: int | None,
    window: int,
    at_bpb: float,
    manifest: Path | None,
    near: bool,
) -> ByteReport:
    """Audit a folder of shards. Raises ``UsageError`` for what is missing, ``CouldNotCheck`` for damaged shards.

    claimed_bytes, claimed_targets: what a submission divided by (within ``tolerance``) and scored
    """
    if (tokenizer := folder_tokenizer(folder, tokenizer_file)) is None:
        raise UsageError(f"{folder} does not say its tokenizer.", remedy="Give --tokenizer FILE.")
    tokens = dataset.join_values(dataset.find_shards(folder, "val"))
    if len(tokens) < 2:
        raise CouldNotCheck(f"{folder} has no validation shards.", remedy="Give a folder with *_val_000000.bin.")
    dataset.refuse_foreign_tokens(tokens, tokenizer.vocab_size, folder, "--tokenizer names the right one.")
    if tokens[0] != tokenizer.bos_id:
        raise CouldNotCheck(
            f"{folder}: validation begins with token {tokens[0]}, not with BOS ({tokenizer.bos_id}).",
            remedy="The format has one BOS before each document; --tokenizer names the right tokenizer.",
        )
    findings: list[Finding] = []
    ledger, raw, comparison = None, None, None

    def say(rule: str, text: str, wrong: str = "") -> None:
        findings.append(Finding(rule, Verdict.FAIL if wrong else Verdict.PASS, text, found=wrong))

    # 1. The ledger that lies with the shards, if it fits them.
    if paths := dataset.find_shards(folder, LEDGER):
        stored = dataset.join_values(paths)
        if len(stored) != len(tokens):
            say(A7_BYTES, f"the byte ledger has {len(stored):,} entries for {len(tokens):,} tokens.", "ledger-length")
        else:
            ledger = stored[1:].astype(np.int64)
            if (folder / dataset.MANIFEST).is_file():
                total, wanted = int(ledger.sum()), dataset.read_manifest(folder).val_bytes
                differs = "ledger-differs" if total != wanted else ""
                say(A7_BYTES, f"the ledger sums to {total:,} bytes, {dataset.MANIFEST} says {wanted:,}.", differs)
    # 2. The documents tokenised again, token for token: then the ledger follows from them alone.
    if documents:
        count = int((tokens == tokenizer.bos_id).sum())
        texts = list(islice(Documents(documents, field), val_documents or count))
        with progress.stage("tokenize documents again", len(texts), "documents") as stage:
            exact, end, seen = ledger_of(texts, tokens, tokenizer, lambda number, _: stage.update(number))
        findings.append(byte_table.round_trip(texts, tokenizer))
        text = f"{count:,} documents in the shards, {len(texts):,} in the source"
        if seen < len(texts) or end < len(tokens):
            text += f": document {seen:,} is the first that is not there, from token {end:,} on."
            say(C4_COVERAGE, text, "documents-missing")
        else:
            say(C4_COVERAGE, f"{text}, equal token for token.")
            before, ledger, raw = ledger, exact[1:], "".join(texts).encode()
            if before is not None and not np.array_equal(before, ledger):
                place = int(np.flatnonzero(before != ledger)[0])
                text = f"the stored ledger says {before[place]} bytes for target {place:,}, the documents"
                say(A7_BYTES, f"{text} {ledger[place]}.", "ledger-differs")
    # 3. The look-up table against the ledger, and the bytes that a claim divided by.
    if ledger is not None:
        comparison = byte_table.compare_table(tokens, ledger, tokenizer, raw, window=window, at_bpb=at_bpb)
        findings += byte_table.judge_space_marker(tokenizer, comparison)
        total = int(ledger.sum())
        if raw is not None and total != len(raw):
            say(A7_BYTES, f"the ledger sums to {total:,}, the documents hold {len(raw):,} bytes.", "ledger-differs")
        elif claimed_bytes is not None:
            scored = claimed_targets or len(ledger)
            ways = byte_table.suspects(tokens[: scored + 1], ledger[:scored], tokenizer, total)
            findings.append(byte_table.judge_total(claimed_bytes, tolerance, ways))
    elif claimed_bytes is not None:
        raise UsageError("a claim of bytes needs the documents or a ledger.", remedy="Give --docs.")
    # 4. Is the whole set scored, and are the sides apart?
    if claimed_targets is not None:
        findings.append(byte_table.judge_coverage(claimed_targets, tokens, tokenizer.bos_id, window))
    if manifest is not None:
        findings.append(check_manifest(manifest, folder, tokenizer.bos_id))
    if dataset.find_shards(folder, "train"):
        findings.append(shard_overlap(folder, tokenizer, progress, near=near))
    return ByteReport(findings, comparison)


def shard_overlap(folder: Path, tokenizer: Tokenizer, progress: Reporter, *, near: bool) -> Finding:
    """Documents that stand in validation and in train shards: equal ones, with ``near`` also similar ones."""
    train = dataset.find_shards(folder, "train")

    def spell(ids: byte_table.Tokens) -> bytes:
        return tokenizer.decode(ids.astype(np.int64)) if near else ids.astype("<u2").tobytes()

    def shown() -> Iterator[byte_table.Tokens]:
        for number, path in enumerate(train):
            stage.update(number, path.name)
            yield dataset.map_values(path)

    audit = OverlapAudit(near=near)
    for document in split([dataset.join_values(dataset.find_shards(folder, "val"))], tokenizer.bos_id):
        audit.add_validation(spell(document))
    with progress.stage("compare train with validation", len(train), "shards") as stage:
        for document in split(shown(), tokenizer.bos_id):
            audit.add_train(spell(document))
    return audit.finding()


def split(streams: Iterable[byte_table.Tokens], bos_id: int) -> Iterator[byte_table.Tokens]:
    """Documents without their BOS; one may run on from shard to shard."""
    held: list[byte_table.Tokens] = []
    for stream in streams:
        rest, *documents = np.split(stream, np.flatnonzero(stream == bos_id))
        held += [rest] if len(rest) else []
        for document in documents:
            if held:
                yield np.concatenate(held)
            held = [document[1:]]
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
    val = dataset.find_shards(folder, "val")
    tokens = dataset.join_values(val)
    found = {"docs_val": int((tokens == bos_id).sum()), "files_val": len(val), "tokens_val": len(tokens)}
    wrong = [f"{key} is {found[key]:,}, the manifest says {n:,}" for key, n in wanted.items() if found[key] != n]
    if wanted["docs_val"] != DOCUMENTS:
        wrong.append(f"the manifest's docs_val is {wanted['docs_val']:,}, the split has {DOCUMENTS:,} (#2127)")
    if wrong:
        return Finding(C4_COVERAGE, Verdict.FAIL, "; ".join(wrong) + ".", found="incomplete")
    text = f"{found['docs_val']:,} documents, {len(tokens):,} tokens, as the manifest says."
    return Finding(C4_COVERAGE, Verdict.PASS, text)


class ShardReport(msgspec.Struct, frozen=True):
    """One shard. ``documents`` counts BOS tokens; ``sum`` is set for a byte ledger."""

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


def inspect_path(path: Path, tokenizer_file: str | None, progress: Reporter) -> Inspection:
    """Look at a shard or a folder. Raises ``CouldNotCheck`` for a path without shards or a damaged shard."""
    files = [path] if path.is_file() else sorted(p for p in path.glob("*.bin") if dataset.SHARD_NAME.fullmatch(p.name))
    if not files:
        raise CouldNotCheck(f"{path} holds no shard.", remedy="Give a .bin file or a folder of them.")
    manifest = dataset.read_manifest(path) if (path / dataset.MANIFEST).is_file() else None
    place = tokenizer_file or (str(path / manifest.tokenizer) if manifest else "")
    tokenizer = folder_tokenizer(path, tokenizer_file)
    bos_id = tokenizer.bos_id if tokenizer else BOS
    total, done, shards = sum(f.stat().st_size for f in files), 0, []
    with progress.stage(f"inspect {path.name}", total, "bytes") as stage:
        for file in files:
            shards.append(_look(file, tokenizer, bos_id))
            done += file.stat().st_size
            stage.update(done, file.name)
    tokens = [shard for shard in shards if shard.part != LEDGER]
    findings: list[Finding] = []

    def say(wrong: str, right: str) -> None:
        findings.append(Finding(A7_BYTES, Verdict.FAIL if wrong else Verdict.PASS, f"{wrong or right}."))

    if tokenizer:
        foreign = [f"{s.file} holds token {s.largest}" for s in tokens if s.largest >= tokenizer.vocab_size]
        wrong = f"{foreign[0]}: wrong tokenizer for these shards" if foreign else ""
        say(wrong, f"every token is under {tokenizer.vocab_size:,}")
    for part in ("train", "val"):
        if first := next((s for s in tokens if s.part == part), None):
            wrong = "" if first.first[:1] == [bos_id] else f"{part} does not begin with BOS ({bos_id})"
            say(wrong, f"{part} begins with BOS ({bos_id})")
    empty = ", ".join(s.file for s in tokens if s.values == 0)
    say(empty and f"empty: {empty}", "no shard is empty")
    if wide := sorted({str(dataset.DTYPES[s.version]) for s in tokens if s.version != 1}):
        say(f"token shards of {', '.join(wide)}; wanted uint16", "")
    if len(tokens) < len(shards):
        entries = sum(s.values for s in shards if s.part == LEDGER)
        count = sum(s.values for s in tokens if s.part == "val")
        text = f"{entries:,} ledger entries, {count:,} tokens"
        say("" if entries == count else text, text)
    if manifest:
        differ = ", ".join(s.file for s in shards if manifest.files.get(s.file) != s.sha256)
        say(differ and f"{differ} differ from {dataset.MANIFEST}", f"every digest is that of {dataset.MANIFEST}")
    return Inspection(str(path), place, tokenizer.vocab_size if tokenizer else None, shards, findings)


def _look(file: Path, tokenizer: Tokenizer | None, bos_id: int) -> ShardReport:
    version, count = dataset.read_head(file)
    values, match = dataset.map_values(file), dataset.SHARD_NAME.fullmatch(file.name)
    part = match["part"] if match else "train"
    first, text = values[:FIRST_TOKENS].astype(np.int64), ""
    if tokenizer and part != LEDGER and int(first.max(initial=0)) < tokenizer.vocab_size:
        text = tokenizer.decode(first).decode(errors="replace")
    return ShardReport(
        file=file.name,
        part=part,
        version=version,
        values=count,
        documents=0 if part == LEDGER else int(np.count_nonzero(values == bos_id)),
        largest=int(values.max(initial=0)),
        sum=int(values.sum(dtype=np.int64)) if part == LEDGER else None,
        sha256=file_digest(file),
        first=first[:12].tolist(),
        text=text,
    )
