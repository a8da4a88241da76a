"""One table: every way to evaluate, each scored by the referee in the eval cell of a run, on its clock.

    python tests/bench/refereed_modes.py RUN [RUN ...] --data SET --track one_gpu_120s --recipe best \\
        --row "base:" --row "2 epochs:TTT_EPOCHS=2;TTT_LR=0.02" --mode "frozen, overlap" --json lines.jsonl
    python tests/bench/refereed_modes.py --merge lines.jsonl others.jsonl --baseline base

RUN is the folder of a finished run (GOLF_RUNS_DIR/RUN_ID): its artifact/model.bin is scored, with the seed in its name.
The cell gets the variables of --recipe and --set, then those of the row, and none of this process's own. A --mode is a
row of eval_modes.py: the seed's method, changed by what its name says. Layers, warm-up, shared memory, kept states and
the limit of eval_s are those of `harness submit`; there are no audits and no record. One cell compiles for all; what
its cache lacks is compiled in the warm-up of the row that wants it. Calls on different GPUs run side by side
(CUDA_VISIBLE_DEVICES). A row that fails is told and the others go on; the exit code is 1 then.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import modes_table
import torch
from eval_modes import ROWS, SEEDS_METHOD
from modes_table import Line, TableError

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.config.variables import cache_dir, check_environment, runs_dir
from harness.data import Dataset, load_validation, open_dataset
from harness.errors import HarnessError, UsageError
from harness.progress import Silent, make_reporter
from harness.protocol.session import MODEL_FILE
from harness.run.artifact import (
    SealedSubmission,
    read_folder,
    read_model_file,
    seal_submission,
    sealed_at,
    unpack_sealed,
)
from harness.run.cells import RunContext
from harness.run.evaluate import compile_once, evaluate
from harness.run.machine import describe_machine
from harness.run.manifest import check_variables
from harness.run.phases import OVERSIZE_READ
from harness.run.refereed import remove_tree
from harness.run.reserve import reserved
from harness.scoring.ledger import Stream

RUN_CODE = "run"
DEFAULT_SEED = 1337
SEED_IN_NAME = re.compile(r"-([0-9]{1,10})-[0-9a-f]{6}")
Row = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Model:
    """A finished run. ``seed`` is that of its name; a folder with another name gets the referee's default."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        found = SEED_IN_NAME.search(self.name)
        return int(found[1]) if found else DEFAULT_SEED

    def bundle(self) -> Path:
        """The sealed code of the run. Raises ``UsageError``."""
        for path in (self.folder / "artifact" / "code.bundle", self.folder / "code.bundle"):
            if path.is_file():
                return path
        raise UsageError(f"{self.folder} holds no code.bundle.", remedy="Name a finished run, or --code FOLDER.")

    def packed(self, track: Track) -> bytes:
        """The model file, checked as after packaging. Raises ``UsageError`` or ``RuleBroken``."""
        path = self.folder / "artifact" / MODEL_FILE
        if not path.is_file():
            raise UsageError(f"{path} is missing.", remedy="Name the folder of a finished run.")
        limits = track.limits
        return read_model_file(
            path, max_bytes=OVERSIZE_READ * limits.artifact_bytes, max_unpacked_bytes=limits.unpacked_bytes
        )


class Bench:
    """What all evaluations of one call share: track, data, the folder that the cells start from, the compile cache."""

    def __init__(self, options: argparse.Namespace, track: Track, dataset: Dataset, folder: Path) -> None:
        validation = load_validation(dataset)
        targets = min(options.tokens, len(validation.tokens) - 1)
        self.stream = Stream(validation.tokens, validation.target_bytes, targets)
        self.whole = targets == len(validation.tokens) - 1
        self.track, self.dataset, self.folder, self.code = track, dataset, folder, options.code
        recipe = {"RECIPE": options.recipe} if options.recipe else {}
        self.base = recipe | dict(options.set)
        machine = describe_machine()
        processor = "; ".join(sorted(set(machine.gpus))) if track.hardware.gpus else machine.cpu
        self.machine = f"{processor}, torch {machine.packages.get('torch', 'unknown')}"

    def lay_out(self, model: Model) -> SealedSubmission:
        """Seal the code anew and lay out the closure of ``model``, under paths that stay the same for every model."""
        for name in ("code", "code.bundle", "closure", "ledger.jsonl"):
            remove_tree(self.folder / name)
        if self.code == RUN_CODE:
            shutil.copyfile(model.bundle(), self.folder / "code.bundle")
            sealed = sealed_at(self.folder / "code.bundle", self.folder / "code")
        else:
            sealed = seal_submission(Path(self.code), self.folder)
        unpack_sealed(sealed.bundle.read_bytes(), self.folder / "closure" / "code")
        (self.folder / "closure" / MODEL_FILE).write_bytes(model.packed(self.track))
        return sealed

    def context(self, model: Model, variables: dict[str, str]) -> RunContext:
        """A run's context with a clock of its own. Raises ``UsageError`` for a variable that the code does not know."""
        sealed = self.lay_out(model)
        environ = self.base | variables
        check_variables(sealed.manifest, environ, read_folder(sealed.root))
        if unknown := sorted(environ.keys() - set(sealed.manifest.env.accept)):
            raise UsageError(
                f"{sealed.manifest.name} accepts no variable {', '.join(unknown)}.",
                remedy="[env] accept in its submission.toml lists all of them.",
            )
        return RunContext(self.track, model.seed, self.folder, sealed, environ, Silent(), Ledger())

    def compile(self, model: Model, row: Row, kept: Path | None) -> None:
        """Take the compile cache from ``kept``, or let a cell compile for ``row`` and keep the cache there."""
        cache = self.folder / "compile-cache"
        if kept and kept.is_dir() and any(kept.iterdir()):
            shutil.copytree(kept, cache, symlinks=True)
            return
        try:
            context = self.context(model, row[1])
            compile_once(context, limit_s=self.track.limits.eval_s, targets=self.stream.targets)
        except HarnessError as error:
            remove_tree(cache)
            say(f"compile cell ({row[0]}): FAILED, so every warm-up compiles: {error}")
            return
        if cache.is_dir() and any(cache.iterdir()):
            say(f"compile cell ({row[0]}): {context.clock.entries()[-1].seconds:.1f} s")
            if kept:
                _keep(cache, kept)

    def line(self, model: Model, row: Row) -> Line:
        """Score one model under one row; what fails becomes the line's error."""
        code, context = "", None
        measured: dict[str, object] = {}
        try:
            context = self.context(model, row[1])
            code = context.sealed.code_digest
            limit_s = self.track.limits.eval_s
            score = evaluate(context, "final", self.stream, limit_s=limit_s, whole_set=self.whole).score
            warmup_s = next(span.seconds for span in context.clock.entries() if span.name == "warmup")
            measured = {"bpb": score.bpb, "seconds": score.seconds, "warmup_s": round(warmup_s, 3)}
        except (HarnessError, torch.OutOfMemoryError) as error:
            measured = {"error": str(error)}
        torch.cuda.empty_cache()  # the kept states of this row would stay in the way of the next row's cell
        layers = context.isolation if context else {}
        return Line(
            row=row[0],
            model=model.name,
            variables=self.base | row[1],
            track=self.track.name,
            data=self.dataset.name,
            fingerprint=self.dataset.fingerprint,
            code=code,
            machine=self.machine,
            targets=self.stream.targets,
            missing=sorted(layer for layer, state in layers.items() if not state.in_force),
            **measured,
        )


def _keep(cache: Path, kept: Path) -> None:
    """Copy the cache to ``kept`` by one rename, so that a call beside this one sees all of it or nothing."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{kept.name}-", dir=kept.parent) as own:
        whole = Path(shutil.copytree(cache, Path(own) / "cache", symlinks=True))
        try:
            whole.rename(kept)  # takes the place of an empty folder too
        except OSError:
            say(f"{kept} was filled by another call meanwhile; it stays as it is.")


def measure(options: argparse.Namespace) -> list[Line]:
    """Every row under every model, row by row, each told and kept as soon as it is done."""
    check_environment()
    track, models = load_track(options.track), [Model(folder.absolute()) for folder in options.run]
    for model in models:
        model.packed(track)
    compiled = next(row for row in options.rows if row[0] == (options.compile_with or options.rows[0][0]))
    lines = []
    with reserved(track.hardware), scratch() as folder:
        dataset = open_dataset(options.data or track.dataset, cache_dir() / "datasets", make_reporter())
        dataset.require_vocab(track.vocab_size, f"track {track.name}")
        bench = Bench(options, track, dataset, folder)
        bench.compile(models[0], compiled, options.compile_cache)
        for row in options.rows:
            for model in models:
                lines.append(bench.line(model, row))
                if options.json:
                    modes_table.append(options.json, lines[-1])
                say(modes_table.told(lines[-1]))
    return lines


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this call alone, among the runs as a rescore's is."""
    runs_dir().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="modes-", dir=runs_dir()))
    try:
        yield folder
    finally:
        remove_tree(folder)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def own_row(text: str) -> Row:
    """NAME:VAR=VALUE;VAR=VALUE; nothing behind the colon is the base itself."""
    name, colon, changes = text.partition(":")
    if not name.strip() or not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME:VAR=VALUE;VAR=VALUE")
    return name.strip(), dict(setting(change) for change in changes.split(";") if change.strip())


def known_row(name: str) -> Row:
    """A row of ``eval_modes.py``."""
    if name not in ROWS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of: {'; '.join(ROWS)}")
    return name, SEEDS_METHOD | ROWS[name]


def setting(text: str) -> tuple[str, str]:
    """VAR=VALUE."""
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no VAR=VALUE")
    return name.strip(), value


def positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens above 0")
    return int(text)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="*", help="folder of a finished run")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="print one table of these lines instead")
    parser.add_argument("--baseline", metavar="NAME", help="the row on top of the table; the first by default")
    parser.add_argument("--track", default="smoke")
    parser.add_argument("--data", metavar="SET", help="data set instead of the track's own, as DATA of a submit")
    parser.add_argument("--recipe", help="RECIPE of all rows")
    parser.add_argument("--set", action="append", default=[], type=setting, metavar="VAR=VALUE", help="for all rows")
    parser.add_argument(
        "--row", dest="rows", action="append", default=[], type=own_row, metavar="NAME:VAR=VALUE;…", help="a row"
    )
    parser.add_argument("--mode", dest="rows", action="append", type=known_row, metavar="NAME", help="of eval_modes.py")
    parser.add_argument(
        "--code", default="submission", metavar="FOLDER", help=f"code, sealed anew; {RUN_CODE!r}: that of each run"
    )
    parser.add_argument("--tokens", type=positive, default=1 << 62, help="score the first so many; all by default")
    parser.add_argument("--compile-with", metavar="NAME", help="row that the compile cell runs; the first by default")
    parser.add_argument(
        "--compile-cache", type=Path, metavar="DIR", help="the compile cache comes from here or goes here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append each line here as soon as it is done")
    options = parser.parse_args(argv)
    names = [name for name, _ in options.rows]
    if options.merge and (options.run or options.rows):
        parser.error("--merge goes without runs and rows.")
    if not options.merge and not (options.run and options.rows):
        parser.error("name at least one run, and one --row or --mode.")
    if len(set(names)) < len(names) or len({folder.absolute().name for folder in options.run}) < len(options.run):
        parser.error("two rows, or two runs, have the same name.")
    for option, name in (("--compile-with", options.compile_with), ("--baseline", options.baseline)):
        if not options.merge and name is not None and name not in names:
            parser.error(f"{option} {name!r} is none of the rows: {', '.join(names)}.")
    if options.json:
        try:
            options.json.open("ab").close()  # before an evaluation is spent on it
        except OSError as error:
            parser.error(f"--json {options.json}: {error.strerror}.")
    return options


def main() -> int:
    options = parse()
    try:
        lines = modes_table.read(options.merge) if options.merge else measure(options)
        print(modes_table.table(lines, options.baseline))
    except TableError as error:
        say(f"ERROR: {error}")
        return 2
    except HarnessError as error:
        say(f"{error.label}: {error}")
        return int(error.exit_code)
    return int(any(models.bpb is None for models in lines))


if __name__ == "__main__":
    sys.exit(main())
