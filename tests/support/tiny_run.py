"""A whole refereed run in seconds: the template on a made-up data set. Also a program: ``tiny_run.py HOUSE``."""

import os
import sys
from pathlib import Path

import numpy as np
from cells import living

from harness.cli.new import create
from harness.config.variables import cache_dir
from harness.data import Dataset, Validation
from harness.data.dataset import join_values, shard_name, write_shard
from harness.progress import Reporter
from harness.record.verification import verify_folder
from harness.rules import Finding, Verdict
from harness.run import refereed, rescore, runs
from harness.run.cells import COPIES

VOCAB, BOS = 1024, 2  # most tokenizers begin documents with 1; a run must not rely on it


def make_house(house: Path) -> None:
    """Data, and a submission from the template, below ``house``."""
    data = house / "data"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 60_000), ("val", 3_000)):
        tokens = np.minimum(random.geometric(0.02, count), VOCAB - 1).astype(np.uint16)
        tokens[0] = BOS
        write_shard(data / shard_name("tiny", part, 0), tokens)
    create("mini", house)


def tiny_dataset(house: Path) -> Dataset:
    folder = house / "data"
    return Dataset(
        version=1,
        source={},
        train_documents=1,
        train_bytes=None,
        name="tiny",
        folder=folder,
        files={"val.bin": "cd" * 32},
        train_shards=tuple(sorted(folder.glob("*train*"))),
        val_documents=1,
        val_bytes=3 * 2_999,
        val_tokens=3_000,
        train_tokens=60_000,
        vocab_size=VOCAB,
        bos_id=BOS,
        tokenizer="tokenizer.model",
        baselines_bpb={},
        disjoint=Finding("A4-DISJOINT", Verdict.PASS, "made up."),
    )


def use_house(house: Path, set_attribute, set_variable) -> None:
    """Point the referee to ``house``."""

    def load_validation(_):
        tokens = np.asarray(join_values(sorted((house / "data").glob("*val*"))), np.uint16)
        return Validation(tokens, np.full(len(tokens) - 1, 3, np.uint8))

    for module in (runs, rescore):
        set_attribute(module, "open_dataset", lambda *_: tiny_dataset(house))
    for module in (refereed, rescore):
        set_attribute(module, "load_validation", load_validation)
    share_copies(house / "cache")
    for name in ("CACHE", "KEYS", "RUNS", "RECORDS"):
        set_variable(f"GOLF_{name}_DIR", str(house / name.lower()))


def share_copies(cache: Path) -> None:
    """Make a cache folder with the copies of packages that all tests share, for they take long to make."""
    if not cache.exists():
        common = cache_dir() / COPIES
        common.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True)
        (cache / COPIES).symlink_to(common)


def run_tiny(house: Path, seed: int = 1, environ: dict[str, str] | None = None) -> runs.RunOutcome:
    order = refereed.Order(house / "mini", "smoke", None, environ or {}, house / "records", Reporter())
    return runs.submit_run(order, seed)


def resume_tiny(house: Path, run: str = "newest") -> runs.RunOutcome:
    return runs.resume_run(run, records_dir=house / "records", progress=Reporter())


def cell_processes(house: Path) -> list[int]:
    """Ids of living threads that run code of this house's runs."""
    return living(f"{house}/runs")


def stored(house: Path, kind: str) -> list[Path]:
    return [path for path in (house / "records" / kind).glob("*") if path.is_file()]


def assert_nothing_false(house: Path) -> None:
    """Whatever lies in the records folder is whole and signed, and no result came out of the interrupted run."""
    assert not stored(house, "runs")
    if stored(house, "intents"):
        assert verify_folder(house / "records").verdict in (Verdict.PASS, Verdict.WARN)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    use_house(place, setattr, os.environ.__setitem__)
    run_tiny(place)
