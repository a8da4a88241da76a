"""One cell compiles for all: it sees what the final stage starts from and no token, and the others may only read."""

import contextlib
import os
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run

from harness.config.tracks import load_track
from harness.errors import RuleBroken, UsageError
from harness.files import remove_tree
from harness.record.predicate import ReadablePart
from harness.rules import Verdict
from harness.run import evaluate
from harness.run.manifest import read_manifest
from harness.run.verdicts import closure_finding

LATER = ("final", "float", "packed", "replica-1", "replica-2")
WARM_UP = """
        import os
        from pathlib import Path

        if "GOLF_COMPILE_CACHE_OUT" in os.environ:
            print("CACHE: stage", os.environ["GOLF_STAGE"], "BOS", os.environ["GOLF_BOS_ID"], flush=True)
            Path(os.environ["GOLF_COMPILE_CACHE_OUT"], "kernel").write_text("compiled")
            return
        folder = Path(os.environ["GOLF_COMPILE_CACHE"])
        try:
            (folder / "message").write_text("to a later cell")
            written = True
        except OSError:
            written = False
        print("CACHE:", (folder / "kernel").read_text(), written, flush=True)
"""


@pytest.mark.slow  # a whole run with its audits
def test_every_later_cell_reads_what_the_compiling_cell_left(tmp_path: Path, monkeypatch) -> None:
    house = tmp_path / "house"
    tiny_run.make_house(house)
    tiny_run.use_house(house, monkeypatch.setattr, monkeypatch.setenv)
    entry, manifest = house / "mini" / "eval_entry.py", house / "mini" / "submission.toml"
    nothing = '        """Nothing to compile."""\n'
    assert nothing in entry.read_text()
    entry.write_text(entry.read_text().replace(nothing, nothing + WARM_UP))
    manifest.write_text(manifest.read_text().replace("\n[entry]", 'compile_cache = "always"\n\n[entry]'))
    record = tiny_run.run_tiny(house, environ={"BIGRAM_WEIGHT": "0.7", "HOME": "/root"}).record
    logs = next((house / "runs").glob("*/logs"))
    assert f"CACHE: stage final BOS {tiny_run.BOS}\n" in (logs / "compile.log").read_text()
    can_write = not record.isolation["landlock"].startswith("in force")
    for cell in LATER:
        assert f"CACHE: compiled {can_write}\n" in (logs / f"{cell}.log").read_text(), cell
    names = [span.name for span in record.spans]
    assert names.index("warmup compile") < names.index("eval"), "nothing of the stream was revealed before"
    assert next(s.budget for s in record.spans if s.name == "warmup compile") == ""
    (found,) = [f for f in record.findings if f.rule == "A3-NO-UNCOUNTED-CODE"]
    assert "a compile cache made from these two" in found.message
    assert "16 bytes of variables were set: BIGRAM_WEIGHT" in found.message


def as_it_is(folder: Path) -> None:
    (folder / "model").write_bytes(random.Random(0).randbytes(900_000))


def unlisted(folder: Path) -> None:
    as_it_is(folder)
    folder.chmod(0o300)


def deep(folder: Path) -> None:
    """Deeper than a path is long, and than Python's own functions go."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def hollow(folder: Path) -> None:
    """Holes pack to nothing; a terabyte of them would take a day to count."""
    with (folder / "holes").open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("leave", "words"),
    [
        (as_it_is, "packs to 900,"),
        (unlisted, "can't be counted: Permission denied (folder)"),
        (deep, "can't be counted: File name too long"),
        (hollow, "can't be counted: it has over 4,194,304 bytes"),
    ],
)
def test_nothing_keeps_files_from_being_counted(monkeypatch, leave, words: str) -> None:
    """A folder that nobody may list gives its files to whoever knows their names; root may list all, so not as root."""
    monkeypatch.setattr(evaluate, "CACHE_BYTES", 1 << 22)
    with tempfile.TemporaryDirectory() as place:
        house, (gone, said) = Path(place), os.pipe()
        house.chmod(0o777)
        cache = house / "compile-cache"

        @contextlib.contextmanager
        def eval_cell(*_, **__):
            (cache / "folder").mkdir()
            leave(cache / "folder")
            yield None, None

        monkeypatch.setattr(evaluate, "eval_cell", eval_cell)
        monkeypatch.setattr(evaluate, "warm_up", lambda *_, **__: None)
        context = SimpleNamespace(compiles=True, compile_cache_dir=cache, compiled_bytes=0, track=load_track("smoke"))
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:
                os.seteuid(65534)
            try:
                evaluate.compile_once(context, evaluate.Told(1.0, 1))
                os.write(said, b"passed")
            except RuleBroken as error:
                os.write(said, f"{error.rule}: {error.message}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        found = os.read(gone, 10_000).decode()
        os.close(gone)
        os.close(said)
        assert found.startswith("A3-NO-UNCOUNTED-CODE: the compile cache")
        assert words in found
        for left in (cache, cache.with_name(evaluate.COPIED)):  # whatever it holds
            remove_tree(left)
            assert not left.exists()


def test_another_word_is_refused() -> None:
    toml = b'name = "x"\ncompile_cache = "sometimes"\n[entry]\ndescribe="a"\ntrain="a"\npackage="a"\neval="a"\n'
    with pytest.raises(UsageError, match="compile_cache"):
        read_manifest({"submission.toml": toml, "a.py": b""}, "x")


@pytest.mark.parametrize(
    ("asked", "compiled", "verdict", "words"),
    [
        ((), 0, Verdict.PASS, "it could read 41.0 MB of the machine"),
        (("safetensors", "not-installed"), 0, Verdict.PASS, "no manuals"),
        (("texts-of-many",), 0, Verdict.WARN, "asked for the packages texts-of-many"),
        (("Texts_of.Many",), 0, Verdict.WARN, "the packages texts-of-many"),  # cells are given it by any spelling
        (("SafeTensors", ""), 0, Verdict.PASS, "no manuals"),
        ((), 200_000, Verdict.WARN, "over 12% of the cap"),
    ],
)
def test_what_is_not_counted_is_told(tmp_path: Path, asked, compiled: int, verdict: Verdict, words: str) -> None:
    manifest = SimpleNamespace(packages=asked, env=SimpleNamespace(accept=()))
    context = SimpleNamespace(
        compile_cache_dir=tmp_path,
        compiled_bytes=compiled,
        sealed=SimpleNamespace(manifest=manifest),
        environ={},
        isolation={},
        track=load_track("smoke"),
    )
    parts = [ReadablePart("torch 2", 3, 40_000_000, ""), ReadablePart("safetensors 1", 1, 1_000_000, "")]
    parts += [ReadablePart("texts-of-many 3", 1, 0, "")]
    found = closure_finding(context, parts)
    assert (found.rule, found.verdict) == ("A3-NO-UNCOUNTED-CODE", verdict)
    assert words in found.message
