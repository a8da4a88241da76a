"""From files and options to a data set: what ``harness data build`` does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harness.data.build import SHARD_TOKENS, build_dataset, folder_lock
from harness.data.case import TRANSFORM, CaseTokenizer, apply_operators
from harness.data.dataset import Manifest
from harness.data.documents import Documents
from harness.data.encoding import load_tokenizer
from harness.data.spm import SentencePieceTokenizer, train_bpe
from harness.data.tokenizers import Tokenizer
from harness.errors import UsageError
from harness.fineweb import DOCUMENTS
from harness.progress import Reporter

TRAINING_CHARACTERS = 100_000_000


@dataclass(frozen=True)
class BuildPlan:
    """Options of a build; exactly one of ``tokenizer`` (a file) and ``train_tokenizer`` (a size) is set."""

    sources: tuple[Path, ...]
    tokenizer: str | None = None
    train_tokenizer: int | None = None
    case_operators: bool = False
    val_documents: int = DOCUMENTS
    field: str = "text"
    name: str = "mine"
    shard_tokens: int = SHARD_TOKENS
    near: bool = True

    def check(self) -> None:
        """Raises ``UsageError`` for options that contradict each other."""
        if (self.tokenizer is None) == (self.train_tokenizer is None):
            raise UsageError("the tokenizer is not clear.", remedy="Give one of --tokenizer and --train-tokenizer.")
        if self.val_documents < 1 or self.shard_tokens < 2:
            raise UsageError(
                f"--val-docs is {self.val_documents}, --shard-tokens {self.shard_tokens}; wanted at least 1 and 2.",
                remedy="Raise them.",
            )
        if not self.name.replace("-", "").replace("_", "").replace(".", "").isalnum() or self.name.startswith("."):
            raise UsageError(f"{self.name!r} is not a file name.", remedy="Use letters, digits, - and _.")


def build_from_sources(plan: BuildPlan, folder: Path, progress: Reporter) -> None:
    """Build ``folder`` by ``plan``. Raises ``UsageError``, ``CouldNotCheck``; nothing half-written stays."""
    plan.check()
    documents = Documents(plan.sources, plan.field)
    with folder_lock(folder):
        tokenizer = _tokenizer(plan, documents, progress)
        texts = iter(documents)
        build_dataset(
            folder,
            name=plan.name,
            prefix=plan.name,
            validation=islice(texts, plan.val_documents),
            train=texts,
            tokenizer=tokenizer,
            source=_source(plan, documents),
            progress=progress,
            shard_tokens=plan.shard_tokens,
            total=documents.size,
            position=lambda: documents.position,
            near=plan.near,
        )


def dataset_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer of a built data set, with its transform."""
    tokenizer = load_tokenizer(folder / manifest.tokenizer)
    return CaseTokenizer(tokenizer) if manifest.source.get("transform") == TRANSFORM else tokenizer


def _tokenizer(plan: BuildPlan, documents: Documents, progress: Reporter) -> Tokenizer:
    if plan.tokenizer is not None:
        tokenizer = load_tokenizer(plan.tokenizer)
    else:
        size = plan.train_tokenizer or 0
        with progress.stage(f"tokenizer of {size:,}", None):
            lines = _training_lines(plan, documents)
            try:
                tokenizer = SentencePieceTokenizer(train_bpe(lines, size), f"{plan.name}_{size}_bpe.model")
            except (RuntimeError, OSError) as error:
                raise UsageError(
                    f"a tokenizer of {size:,} pieces cannot be trained: {error}.",
                    remedy="Ask for fewer pieces, or give more text.",
                ) from None
    return CaseTokenizer(tokenizer) if plan.case_operators else tokenizer


def _training_lines(plan: BuildPlan, documents: Documents) -> list[str]:
    """Lines of the train side, at most 100 million characters of them; validation is never among them."""
    lines: list[str] = []
    size = 0
    for text in islice(documents, plan.val_documents, None):
        written = apply_operators(text) if plan.case_operators else text
        lines += [line for line in written.splitlines() if line.strip()]
        size += len(text)
        if size > TRAINING_CHARACTERS:
            break
    if not lines:
        raise UsageError(
            f"nothing is left to train on: the sources hold at most {plan.val_documents:,} documents.",
            remedy="Lower --val-docs.",
        )
    return lines


def _source(plan: BuildPlan, documents: Documents) -> dict[str, str]:
    digest = hashlib.sha256()
    for file in documents.files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    source = {"files_sha256": digest.hexdigest(), "split": f"the first {plan.val_documents:,} documents are validation"}
    if plan.case_operators:
        source["transform"] = TRANSFORM
    return source
