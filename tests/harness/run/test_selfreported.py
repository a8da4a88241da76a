"""An unmodified script behind the sandbox, the clock and the cap; its score is its own word, and says so."""

import contextlib
import time
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
import sentencepiece as spm
from process_lab import VOCAB, zoo_track
from tiny_run import VOCAB as VOCABULARY
from tiny_run import make_house, tiny_dataset

from harness.cli.submit import show
from harness.clock.spans import Ledger
from harness.config.tracks import load_track
from harness.errors import RuleBroken, UsageError
from harness.progress import Reporter
from harness.rules import Verdict
from harness.run.cells import RunContext
from harness.run.refereed import Order
from harness.run.runs import RunOutcome
from harness.run.selfreported import run_script, seal_script, submit_script

SCRIPT = """
import glob, os, sys, time
from pathlib import Path

for part in "train", "val":
    (shard,) = glob.glob(os.path.join(os.environ["DATA_PATH"], f"fineweb_{{part}}_*.bin"))
    assert Path(shard).read_bytes().endswith(part.encode())
assert os.environ["VOCAB_SIZE"] == "32" and os.environ["SEED"] == "7" and os.environ["RANK"] == "0"
print("seed: 7")
Path("final_model.int8.ptz").write_bytes(bytes(int(os.environ.get("MODEL_BYTES", "1000"))))
{act}
print("final_int8_zlib_roundtrip val_loss:2.0794 val_bpb:1.2345 eval_time:12ms")
print("final_int8_zlib_roundtrip_exact val_loss:2.07944154 val_bpb:1.23456789")
"""


def dataset(folder):
    folder.mkdir()
    shards = {part: folder / f"tiny_{part}_000000.bin" for part in ("train", "val", "val_bytes")}
    for part, path in shards.items():
        path.write_bytes(b"shard " + part.encode())
    (folder / "tokenizer.model").write_bytes(b"")
    sizes = {"vocab_size": VOCAB, "val_bytes": 1500, "val_tokens": 501}
    own = {"folder": folder, "train_shards": (shards["train"],), "bos_id": 1, **sizes}
    return msgspec.structs.replace(tiny_dataset(folder), **own)


def run(tmp_path, act="", variables=None, limits=None, progress=None):
    path = tmp_path / "train_gpt.py"
    path.write_text(SCRIPT.format(act=act))
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    sealed = seal_script(path, run_dir, variables or {})
    context = RunContext(zoo_track(limits or {}), 7, run_dir, sealed, variables or {}, progress or Reporter(), Ledger())
    return run_script(context, dataset(tmp_path / "data"), pattern="*.ptz")


def verdict(record, rule):
    return next(finding.verdict for finding in record.findings if finding.rule == rule)


def test_the_score_is_taken_from_the_script_and_labelled_everywhere(tmp_path, capsys):
    record = run(tmp_path)
    assert record.kind == "self-reported"
    assert record.scores[0].bpb == 1.23456789
    assert record.sizes.model_bytes == 1000
    assert record.sizes.code_bytes == len((tmp_path / "train_gpt.py").read_bytes())
    assert verdict(record, "C1-CAUSAL") is Verdict.UNKNOWN
    assert "self-reported" in record.submission.name
    show(RunOutcome(record, None, tmp_path), as_json=False, verbose=False)
    summary = capsys.readouterr().out
    assert "the script's own word" in summary
    assert "test-time training" not in summary
    assert "budget" not in summary
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


def test_what_the_script_prints_is_shown_while_it_runs(tmp_path):
    class Shown(Reporter):
        lines: ClassVar[list[str]] = []

        def note(self, text):
            self.lines.append(text)
            if text == "are you there?":
                (tmp_path / "run" / "work" / "seen").touch()

    act = (
        "print('are you there?', flush=True)\nwhile not os.path.exists('seen'): time.sleep(0.01)\nprint('1 %\\r100 %')"
    )
    run(tmp_path, act, progress=Shown())
    assert Shown.lines[:3] == ["seed: 7", "are you there?", "100 %"]
    assert Shown.lines[-1].endswith("val_bpb:1.23456789")


def test_the_cap_counts_the_script_and_the_model_that_it_left(tmp_path):
    record = run(tmp_path, variables={"MODEL_BYTES": "99900"})
    assert verdict(record, "A3-ARTIFACT-BYTES") is Verdict.FAIL


@pytest.mark.parametrize("pattern", ["/tmp/*.ptz", "../*", "x/../../run.lock", "", "."])
def test_a_packed_model_lies_where_the_script_writes(tmp_path, pattern: str):
    """Elsewhere any small file would count as the model; and an impossible pattern was told after the whole run."""
    order = Order(tmp_path / "s.py", "smoke", None, {}, tmp_path / "records", Reporter())
    with pytest.raises(UsageError, match="names no files in the script's folder"):
        submit_script(order, 1, pattern=pattern)
    assert not (tmp_path / "records").exists()


def test_a_script_out_of_time_is_killed(tmp_path):
    limits = {"setup_s": 1.0, "train_s": 1.0, "warmup_s": 0.5, "eval_s": 0.5}
    with pytest.raises(RuleBroken, match="not done after 3 s") as caught:
        run(tmp_path, "time.sleep(60)", limits=limits)
    assert caught.value.rule == "A1-TRAIN-CLOCK"


@pytest.mark.parametrize(("limit", "seconds"), [(3.0, 4.0), (6.0, 0.0)], ids=["late", "in time"])
def test_a_terminal_that_holds_the_referee_up_does_not_hold_the_clock_up(tmp_path, limit: float, seconds: float):
    limits = {"setup_s": limit - 2.0, "train_s": 1.0, "warmup_s": 0.5, "eval_s": 0.5}

    class Stuck(Reporter):
        def note(self, text):
            time.sleep(0.0 if (tmp_path / "stuck").exists() else limit + 0.5)
            (tmp_path / "stuck").touch()

    act = f"sys.stdout.flush(); time.sleep({seconds})"  # it would end by itself, with 0, before the next look
    if seconds:
        with pytest.raises(RuleBroken) as caught:
            run(tmp_path, act, limits=limits, progress=Stuck())
        assert caught.value.rule == "A1-TRAIN-CLOCK"
    else:
        assert run(tmp_path, act, limits=limits, progress=Stuck()).scores


@pytest.mark.parametrize(
    ("act", "rule"),
    [
        ("sys.exit(3)", "S3-PROTOCOL"),
        ("sys.exit(0)", "S3-PROTOCOL"),
        ("os.remove('final_model.int8.ptz')", "A3-ARTIFACT-BYTES"),
        ("os.remove('final_model.int8.ptz'); os.symlink('/etc/passwd', 'a.ptz')", "A3-ARTIFACT-BYTES"),
        ("import socket; socket.create_connection(('127.0.0.1', 80), 1)", "S3-PROTOCOL"),
    ],
    ids=["fails", "no score", "no model", "model is a link", "network"],
)
def test_what_is_broken_ends_in_a_rule(tmp_path, act, rule):
    with pytest.raises(RuleBroken) as caught:
        run(tmp_path, act)
    assert caught.value.rule == rule


def test_what_is_no_script_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a regular file"):
        seal_script(tmp_path / "missing.py", tmp_path, {})


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("WANDB_API_KEY", "abc", True),
        ("RUN_NOTE", "ghp_abcdefghij", True),
        ("NUM_LAYERS", "9", False),
        ("TRAIN_BATCH_TOKENS", "524288", False),
    ],
)
def test_no_secret_comes_into_the_signed_record(tmp_path, name, value, secret):
    (tmp_path / "train_gpt.py").write_text("pass")
    refused = pytest.raises(UsageError, match=f"--env {name}: its name or value looks like a secret")
    with refused if secret else contextlib.nullcontext():
        seal_script(tmp_path / "train_gpt.py", tmp_path, {name: value})
    assert (tmp_path / "code").exists() is not secret


@pytest.mark.parametrize("name", ["SEED", "DATA_PATH", "WORLD_SIZE", "MAX_WALLCLOCK_SECONDS"])
def test_a_variable_that_the_referee_sets_is_not_lost_without_a_word(tmp_path, name):
    with pytest.raises(UsageError, match=f"the referee sets {name}"):
        run(tmp_path, variables={name: "3"})
    assert not (tmp_path / "run" / "code").exists()


@pytest.mark.slow
def test_a_script_in_the_style_of_the_public_ones_runs_as_the_guide_says(tmp_path):
    make_house(tmp_path)
    text = Path(__file__).parents[3] / "harness" / "SECURITY.md"
    spm.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "data" / "tokenizer"), vocab_size=VOCABULARY, model_type="bpe",
        byte_fallback=True, minloglevel=2,
    )  # fmt: skip
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    script = Path(__file__).parents[2] / "support" / "train_gpt.py"
    variables = {"ITERATIONS": "20"}
    sealed = seal_script(script, run_dir, variables)
    context = RunContext(load_track("smoke"), 1337, run_dir, sealed, variables, Reporter(), Ledger())
    record = run_script(context, tiny_dataset(tmp_path), pattern="*.ptz")
    log = (run_dir / "logs" / "script.log").read_text()
    assert f"val_bpb:{record.scores[0].bpb:.8f}" in log
    assert f"Total submission size int8+zlib: {record.sizes.total_bytes} bytes" in log
