"""What pull request #1890 claims, one row a claim, against refereed runs: ``make seed-table``.

    python tests/bench/seed_table.py                        the table, from the signed runs that there are
    python tests/bench/seed_table.py --run 1337 42 2025     first the runs that are missing, several minutes each

Each claim compares two runs of RECIPE=pr1890 that differ in one thing, seed by seed. A run counts when its record
verifies. The scale-floor bug is no option of the submission: its runs are those of a copy with one line changed, under
a name of its own, so their record says that the code differs. The table goes to --out (default: records/report/seed.md)
and to the screen.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from harness.config.variables import records_dir
from harness.files import write_atomic
from harness.record.predicate import RunRecord
from harness.record.store import load_record
from harness.record.verification import verify_folder
from harness.rules import Verdict
from harness.stats.compare import summarise

ROOT = Path(__file__).resolve().parents[2]
NAME, BUGGED = "mamba3-hybrid", "mamba3-hybrid, scale floor 1/127 for all rows"
FLOOR = "torch.maximum(largest / qmax, 1 / qmax)", "torch.maximum(largest / qmax, torch.full_like(qmax, 1 / 127))"
Figure = Callable[[RunRecord], float]


@dataclass(frozen=True)
class Variant:
    """RECIPE=pr1890 with these settings; ``name``: of the submission that runs."""

    settings: tuple[tuple[str, str], ...] = ()
    name: str = NAME


@dataclass(frozen=True)
class Claim:
    """The figure ``of`` a run of ``after`` less that of ``before``; stated: what the pull request says of it."""

    text: str
    before: Variant
    after: Variant
    unit: str
    of: Figure
    says: str
    stated: float | None


def final_mbpb(record: RunRecord) -> float:
    return 1e3 * record.final.bpb


def model_kib(record: RunRecord) -> float:
    return record.sizes.model_bytes / 1024


def share_saved(record: RunRecord) -> float:
    """Per cent that the model file saves on a byte a parameter."""
    return 100 * (1 - record.sizes.model_bytes / record.submission.parameters)


BASE = Variant()
ONE_EPOCH = Variant((("TTT_EPOCHS", "1"),))
INT6_DYNAMICS = Variant((("QUANT_BITS_SSM_DYNAMICS", "6"),))
BUG = Variant(name=BUGGED)
PERCENTILES = Variant((("USE_GPTQ", "0"),))
RANDOM_TEXT = Variant((("CALIBRATION_SOURCE", "random"),))
NO_QAT = Variant((("LATE_QAT_THRESHOLD", "0"),))
MORE_ATTENTION = Variant((("NUM_ATTN_LAYERS", "2"),))
VARIANTS = (BASE, ONE_EPOCH, INT6_DYNAMICS, BUG, PERCENTILES, RANDOM_TEXT, NO_QAT, MORE_ATTENTION)
CLAIMS = (
    Claim("TTT_EPOCHS 1 → 2", ONE_EPOCH, BASE, "mBPB", final_mbpb, "regression +8.3 → +0.7", -7.6),
    Claim("dynamics rows INT6 → INT8", INT6_DYNAMICS, BASE, "mBPB", final_mbpb, "recovers 0.8", -0.8),
    Claim("… their bytes", INT6_DYNAMICS, BASE, "KiB", model_kib, "0.01 MiB", 10.24),
    Claim("scale-floor bug out", BUG, BASE, "mBPB", final_mbpb, "none stated", None),
    Claim("… its bytes", BUG, BASE, "KiB", model_kib, "1.4 MiB less", -1433.6),
    Claim("percentile search → GPTQ, equal pruning prices", PERCENTILES, BASE, "mBPB", final_mbpb, "none stated", None),
    Claim("random → self-generated calibration", RANDOM_TEXT, BASE, "mBPB", final_mbpb, "none stated", None),
    Claim("late QAT", NO_QAT, BASE, "mBPB", final_mbpb, "none stated", None),
    Claim("LZMA: an SSM block for an attention block", MORE_ATTENTION, BASE, "% saved", share_saved, "40 → 33", -7.0),
)
HEAD = ("claim", "unit", "#1890 states", "refereed", "seeds", "sign agrees", "size agrees")


def variant_of(record: RunRecord) -> Variant | None:
    """The variant that a run is of; ``None`` for a run of something else."""
    config = record.submission.config
    defaults = dict(base_settings(record.track.name))
    for variant in VARIANTS:
        wanted = defaults | dict(variant.settings)
        if record.submission.name == variant.name and all(
            name in config and same(config[name], value) for name, value in wanted.items()
        ):
            return variant
    return None


def base_settings(track: str) -> Iterator[tuple[str, str]]:
    """Every setting of RECIPE=pr1890 on a track."""
    from submission.config import as_scalars, load_config

    for name, value in as_scalars(load_config({"RECIPE": "pr1890"}, track)).items():
        yield name, str(value)


def same(found: object, wanted: str) -> bool:
    try:
        return math.isclose(float(found), float(wanted))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        text = {"True": "1", "False": "0"}
        return text.get(str(found), str(found)) == text.get(wanted, wanted)


def collect(folder: Path, track: str) -> tuple[dict[Variant, dict[int, RunRecord]], list[str]]:
    """The newest verified run of each variant and seed; and notes on records that were left out."""
    found: dict[Variant, dict[int, RunRecord]] = {variant: {} for variant in VARIANTS}
    notes = []
    for entry in sorted(verify_folder(folder).records, key=lambda entry: entry.path):
        if any(finding.verdict in (Verdict.FAIL, Verdict.ERROR) for finding in entry.findings):
            notes.append(f"{entry.path.name} does not verify and is left out.")
            continue
        record = load_record(entry.path).record
        variant = variant_of(record) if record.track.name == track else None
        if variant and any(score.stage == "final" and score.whole_set for score in record.scores):
            found[variant][record.submission.seed] = record
    return found, notes


def row(claim: Claim, runs: dict[Variant, dict[int, RunRecord]]) -> tuple[str, ...]:
    before, after = runs[claim.before], runs[claim.after]
    seeds = sorted(seed for seed in before.keys() & after.keys() if alike(before[seed], after[seed]))
    differences = [claim.of(after[seed]) - claim.of(before[seed]) for seed in seeds]
    if not differences:
        return claim.text, claim.unit, claim.says, "not run", "0", "", ""
    found = summarise(differences)
    spread = "" if found.sample_std is None else f" ± {found.sample_std:.2f}"
    half = None if found.high is None else found.high - found.mean
    shown = f"{found.mean:+.2f}{spread}"
    return claim.text, claim.unit, claim.says, shown, str(found.n), *agreement(claim, found.mean, half)


def agreement(claim: Claim, mean: float, half: float | None) -> tuple[str, str]:
    """Whether sign and size agree, as far as a 95 % interval of the mean (± half) can tell; one seed tells neither."""
    if claim.stated is None:
        return "", ""
    if half is None:
        return "one seed", "one seed"
    sign = "undecided" if abs(mean) <= half else "yes" if mean * claim.stated > 0 else "no"
    return sign, "yes" if abs(mean - claim.stated) <= half else "no"


def alike(one: RunRecord, other: RunRecord) -> bool:
    """Same data; and the same code, unless the code is what is compared."""
    same_code = one.submission.code_digest == other.submission.code_digest
    return one.data.fingerprint == other.data.fingerprint and (
        same_code or one.submission.name != other.submission.name
    )


def table(folder: Path, track: str) -> str:
    runs, notes = collect(folder, track)
    rows = [row(claim, runs) for claim in CLAIMS]
    title = f"## The claims of pull request #1890, refereed on track {track}"
    text = (
        "Differences of two runs of `RECIPE=pr1890` that differ in one thing, seed by seed: mean ± sample deviation. "
        "Sign and size are judged by the 95 % interval of the mean. What #1890 states is of 25 million parameters."
    )
    return "\n\n".join([title, text, tabulate(rows, HEAD, "github", disable_numparse=True), *notes]) + "\n"


@contextmanager
def code_of(variant: Variant) -> Iterator[Path]:
    """The submission that a variant runs."""
    if variant.name == NAME:
        yield ROOT / "submission"
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "submission"
        shutil.copytree(ROOT / "submission", copy, ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in (
            (copy / "package" / "grid.py", *FLOOR),
            (copy / "submission.toml", f'name = "{NAME}"', f'name = "{variant.name}"'),
        ):
            text = file.read_text()
            if text.count(old) != 1:
                raise SystemExit(f"{file.name} has no {old!r} to change.")
            file.write_text(text.replace(old, new))
        yield copy


def run_missing(folder: Path, track: str, seeds: Sequence[int]) -> int:
    """Run what is missing, the base first. Returns the first exit code that is not 0."""
    for variant in VARIANTS:
        done = collect(folder, track)[0][variant]
        missing = [seed for seed in seeds if seed not in done]
        settings = {"RECIPE": "pr1890", "TRACK": track} | dict(variant.settings)
        for seed in missing:
            said = " ".join(f"{name}={value}" for name, value in settings.items())
            print(f"{variant.name}: {said} SEED={seed}", file=sys.stderr, flush=True)
            environ = (
                {name: value for name, value in os.environ.items() if name != "SEEDS"} | settings | {"SEED": str(seed)}
            )
            with code_of(variant) as code:
                command = [sys.executable, "-m", "harness", "submit", "--submission", str(code)]
                finished = subprocess.run(command, env=environ, stdout=subprocess.DEVNULL)
            if finished.returncode:
                return finished.returncode
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=int, nargs="+", metavar="SEED", default=[], help="run what is missing of these seeds"
    )
    parser.add_argument("--track", default=os.environ.get("TRACK", "smoke"))
    parser.add_argument("--out", type=Path, default=ROOT / "records" / "report" / "seed.md")
    options = parser.parse_args()
    folder = records_dir()
    code = run_missing(folder, options.track, options.run)
    text = table(folder, options.track)
    write_atomic(options.out, text.encode(), replace=True)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
