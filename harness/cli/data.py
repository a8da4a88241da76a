"""``harness data``: fetch, build and inspect data sets."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from harness.cli import JSON, PATH, epilog, say
from harness.cli.result import fitted_table, fitted_text
from harness.config.variables import cache_dir
from harness.errors import HarnessError, UsageError
from harness.files import file_digest
from harness.fineweb import DOCUMENTS, EXPORTS
from harness.progress import make_reporter
from harness.rules import exit_code_of


@click.group(epilog=epilog("data"))
def command() -> None:
    """Fetch, build and inspect data sets."""


@command.command(epilog=epilog("fetch"))
@click.option("--variant", type=click.Choice(EXPORTS), required=True, help="Which tokenizer.")
@click.option("--train-shards", type=click.IntRange(0), metavar="N", help="Only the first N of train (default: all).")
@click.option("--with-docs", is_flag=True, help="The documents too: they make the byte ledger, without which no score.")
@click.option("--revision", help="Branch, tag or commit (default: main, or that of a started fetch).")
@JSON
def fetch(variant: str, with_docs: bool, as_json: bool, **chosen: Any) -> None:
    """Fetch a published export from the hub, at a pinned revision, every file checked."""
    from harness.data.fetch import fetch as fetch_files

    folder = (cache_dir() / "datasets" / f"fineweb_{variant}").absolute()
    record = fetch_files(variant, folder, make_reporter(silent=as_json), with_docs=with_docs, **chosen)
    result: dict[str, object] = {"folder": str(folder), "repository": record.repo, "revision": record.revision}
    _show(result | {"files": len(record.files), "bytes": sum(file.size for file in record.files)}, as_json)
    if not with_docs:
        click.echo("No byte ledger without the documents: add --with-docs before a run is scored on it.", err=True)


@command.command(epilog=epilog("build"))
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option("--tokenizer", metavar="FILE", help="A .model, .tiktoken or byte260 .json file, or the word byte260.")
@click.option("--train-tokenizer", metavar="N", type=int, help="Train a BPE of N pieces on the train side instead.")
@click.option("--case-operators", is_flag=True, help="Lower-case letters and write case as operators, losslessly.")
@click.option("--val-docs", "val_documents", type=click.IntRange(1), default=DOCUMENTS, show_default=True,
              help="The first N documents are validation.")  # fmt: skip
@click.option("--field", default="text", show_default=True, help="Key of the text in a JSON line.")
@click.option("--name", default="mine", show_default=True, help="Name of the data set.")
@click.option("--out", type=PATH, help="Folder to build (default: NAME in the cache).")
@click.option("--shard-tokens", type=click.IntRange(2), default=10**8, show_default=True, help="Tokens a shard.")
@click.option("--no-near", is_flag=True, help="Look for equal documents across the sides only, not for similar ones.")
@JSON
def build(
    sources: tuple[Path, ...],
    tokenizer: str | None,
    train_tokenizer: int | None,
    case_operators: bool,
    val_documents: int,
    field: str,
    name: str,
    out: Path | None,
    shard_tokens: int,
    no_near: bool,
    as_json: bool,
) -> int:
    """Build a data set from JSON lines (.jsonl, .gz, .xz) or text files, in order, validation first."""
    from harness.data.build import build_dataset, folder_lock, trained_tokenizer
    from harness.data.dataset import open_folder
    from harness.data.documents import Documents, load_tokenizer
    from harness.data.tokenizers import TRANSFORM, CaseTokenizer

    if (tokenizer is None) == (train_tokenizer is None):
        raise UsageError("the tokenizer is not clear.", remedy="Give one of --tokenizer and --train-tokenizer.")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise UsageError(f"{name!r} is not a file name.", remedy="Use letters, digits, - and _.")
    folder, progress = (out or cache_dir() / "datasets" / name).absolute(), make_reporter(silent=as_json)
    documents = Documents(sources, field)
    source = {"files_sha256": "", "split": f"the first {val_documents:,} documents are validation"}

    def texts() -> Iterator[str]:
        """All documents, then the digest of their files: one that holds no document is refused unread."""
        yield from documents
        digests = b"".join(bytes.fromhex(file_digest(file)) for file in documents.files)
        source["files_sha256"] = hashlib.sha256(digests).hexdigest()

    with folder_lock(folder):
        if tokenizer is not None:
            chosen = load_tokenizer(tokenizer)
        else:
            size = train_tokenizer or 0
            chosen = trained_tokenizer(size, documents, name, val_documents, progress, operators=case_operators)
        if case_operators:
            chosen, source["transform"] = CaseTokenizer(chosen), TRANSFORM
        rest = texts()
        build_dataset(
            folder,
            name=name,
            validation=islice(rest, val_documents),
            train=rest,
            tokenizer=chosen,
            source=source,
            progress=progress,
            shard_tokens=shard_tokens,
            total=documents.size,
            position=lambda: documents.position,
            near=not no_near,
        )
    dataset = open_folder(folder, progress)
    counts = ("fingerprint", "val_documents", "val_tokens", "val_bytes", "train_tokens", "vocab_size")
    result: dict[str, object] = {"name": dataset.name, "folder": str(folder)}
    result |= {name: getattr(dataset, name) for name in counts}
    result["baselines_bpb"] = dict(dataset.baselines_bpb)
    result["disjoint"] = f"{dataset.disjoint.verdict}: {dataset.disjoint.message}"
    _show(result, as_json)
    return exit_code_of([dataset.disjoint])


@command.command(epilog="Example: harness data inspect path/to/folder --tokenizer fineweb_1024_bpe.model")
@click.argument("path", type=PATH)
@click.option("--tokenizer", metavar="FILE", help="Tokenizer of the shards (a built data set knows its own).")
@JSON
def inspect(path: Path, tokenizer: str | None, as_json: bool) -> int:
    """Show what a shard, a folder of shards or a data set holds.

    PATH is a file, a folder, or the name of a data set in the cache. Shown are headers, tokens, documents, digests, the
    first tokens and verdicts.
    """
    from harness.data.byte_check import inspect_path

    if not path.exists() and not (path := cache_dir() / "datasets" / path).exists():
        text = f"{path.name} is neither a path nor a data set in the cache."
        raise UsageError(text, remedy="`harness data list` lists the cache.")
    report = inspect_path(path, tokenizer, make_reporter(silent=as_json))
    say(report, fitted_text("inspect.txt.jinja", report=report), as_json=as_json)
    return exit_code_of(report.findings)


@command.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List the data sets in the cache."""
    from harness.data.dataset import read_manifest

    folder, rows = cache_dir() / "datasets", []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and not path.name.startswith("."):
            try:
                found = read_manifest(path)
                rows.append((path.name, found.name, f"{found.val_tokens:,} val, {found.train_tokens:,} train tokens"))
            except HarnessError as error:
                rows.append((path.name, "", error.message))
    table = fitted_table(("folder", "data set", "holds"), rows) if rows else "No data set is cached yet."
    say([{"folder": f, "name": n, "state": s} for f, n, s in rows], f"{table}\nFolder: {folder}", as_json=as_json)


def _show(result: dict[str, object], as_json: bool) -> None:
    rows = []
    for key, value in result.items():
        if isinstance(value, dict):
            rows += [(f"{key} {name}", f"{number:.6f}") for name, number in value.items()]
        else:
            rows.append((key, f"{value:,}" if isinstance(value, int) else str(value)))
    say(result, tabulate(rows, tablefmt="plain", disable_numparse=True), as_json=as_json)
