"""Findings that were wrong once: for each the smallest folder that gave it, and where there is one, a real fault."""

import json
import math

import pytest
from public_folders import BYTES, SCRIPT, PublicFolder, loss_of

from harness.review.folder import check_folder
from harness.review.published import judge_claim
from harness.rules import Verdict

FINAL = "quantized_sliding_window"
TOKENS = 40_540_160


def judge(tmp_path, folder):
    report = check_folder(folder.write(tmp_path))
    return {f"{item.verdict.value} {item.rule}": item for item in report.findings if item.verdict is not Verdict.PASS}


def grave(tmp_path, folder, *rules):
    """Names of FAIL and WARN findings, of all rules or of these."""
    found = judge(tmp_path, folder)
    return sorted(n for n in found if not n.startswith("UNKNOWN") and (not rules or n.split()[1] in rules))


def logs(folder, *, offset=0.0, **changes):
    """The folder's logs, with every score moved and every run changed alike."""
    texts = []
    for run in PublicFolder().seeds:
        run.code_bytes, run.bpb = len(folder.script.encode()), run.bpb + offset
        for name, value in changes.items():
            setattr(run, name, value)
        texts.append((run.seed, run.log("modern")))
    return texts


def without_logs(**more):
    return PublicFolder(files={f"train_seed{seed}.log": None for seed in (1, 2, 3)} | more)


def test_a_rerun_beside_the_originals_that_the_json_quotes(tmp_path):
    folder = without_logs()
    folder.files |= {f"train_seed{s}_original.log": t for s, t in logs(folder)}
    folder.files |= {f"train_seed{s}_rerun.log": t for s, t in logs(folder, offset=0.0031, train_ms=601_900)}
    assert grave(tmp_path, folder) == []


def test_an_evaluation_beside_the_training_that_it_scores(tmp_path):
    folder = PublicFolder(metadata={"val_bpb": 1.0705, "val_bpb_std": None, "val_loss": None, "seed_results": {}})
    folder.files["README.md"] = "# X\n\nval_bpb: 1.0705\n\nMerged SOTA (PR #1): **1.0900 BPB**.\n"
    for seed, bpb in ((1, 1.0701), (2, 1.0709), (3, 1.0705)):
        line = f"legal_ttt val_loss:{loss_of(bpb, TOKENS):.8f} val_bpb:{bpb:.8f} eval_time:300000ms\n"
        folder.files[f"ttt/seed_{seed}.log"] = f"val_tokens: {TOKENS}\n{line}"
    assert grave(tmp_path, folder) == []
    folder.seeds[0].train_ms = 640_000
    assert grave(tmp_path / "late", folder) == ["FAIL A1-TRAIN-CLOCK"]


def test_a_study_of_four_context_lengths(tmp_path):
    folder = PublicFolder(track="track_non_record_16mb", metadata={"track": "non_record_16mb", "seeds": None})
    for length in (512, 1024, 2048, 4096):
        run = PublicFolder().seeds[0]
        run.bpb, run.settings, run.code_bytes = 1.2 - length / 1e5, {"seq_len": length}, len(SCRIPT)
        folder.files[f"ctx{length}.log"] = run.log("modern")
    assert grave(tmp_path, folder) == []


def test_the_exact_line_and_its_sliding_twin(tmp_path):
    folder = PublicFolder()
    for run in folder.seeds:
        worse = run.bpb + 0.02
        run.extra = [f"{FINAL}_exact val_loss:{loss_of(worse, TOKENS):.8f} val_bpb:{worse:.8f}"]
        run.after = [f"{FINAL}_exact sliding val_loss:{loss_of(run.bpb, TOKENS):.8f} val_bpb:{run.bpb:.8f}"]
    assert "C4-SINGLE-PASS" not in str([n for n in judge(tmp_path, folder) if "sliding" in n])


def test_progress_lines_are_no_settings(tmp_path):
    folder = PublicFolder()
    for i, run in enumerate(folder.seeds):
        run.settings = {"note": f"x\nstep:{i}/20000 loss:3.3{i} t:9147{i}ms avg:91.{i}ms"}
    assert grave(tmp_path, folder, "A8-SAME-CONFIG") == []


def test_the_mean_of_the_logs_in_bold_and_of_three_of_nine(tmp_path):
    folder = PublicFolder(metadata={"seeds": None})
    more = {s + 10: t for s, t in logs(folder, offset=0.002)} | {s + 20: t for s, t in logs(folder, offset=0.0011)}
    folder.files |= {f"more/train_seed{s}.log": t.replace(f"seed: {s % 10}\n", f"seed: {s}\n") for s, t in more.items()}
    folder.files["README.md"] = "# X\n\n**val_bpb: 1.0805**; the others have a mean of **1.0825**.\n"
    assert grave(tmp_path, folder, "A8-MEAN", "A9-SCORE-MATCH", "A8-SEEDS") == []


def test_a_loss_deviation_that_is_that_of_the_bpb(tmp_path):
    assert grave(tmp_path, PublicFolder(metadata={"val_loss_std": 0.0004}), "A8-STD") == []
    assert grave(tmp_path / "x", PublicFolder(metadata={"val_loss_std": 0.0007}), "A8-STD") == ["WARN A8-STD"]


def test_code_bytes_of_a_second_script(tmp_path):
    folder = PublicFolder(metadata={"bytes_code": 9}, files={"train_gpt_packed.py": "x = 12345"})
    assert grave(tmp_path, folder, "A3-CODE-BYTES") == []
    folder.metadata["bytes_code"] = 8
    assert grave(tmp_path / "x", folder, "A3-CODE-BYTES") == ["WARN A3-CODE-BYTES"]


def test_a_timer_around_others_is_not_added(tmp_path):
    folder = PublicFolder()
    for run in folder.seeds:
        run.eval_ms = 290_000
        run.after = ["total_eval_time:320.0s"]
    assert grave(tmp_path, folder, "A2-EVAL-CLOCK") == []


def test_a_shim_is_followed_into_the_file_that_it_runs(tmp_path):
    shim = 'exec(open("train_gpt_decode.py").read())\n'
    folder = PublicFolder(script=shim, files={"train_gpt_decode.py": SCRIPT + "#" * 150_000})
    assert grave(tmp_path, folder, "A3-NO-UNCOUNTED-CODE") == ["WARN A3-NO-UNCOUNTED-CODE"]
    small = PublicFolder(script=shim, files={"train_gpt_decode.py": SCRIPT})
    assert grave(tmp_path / "x", small, "A3-NO-UNCOUNTED-CODE") == ["WARN A3-NO-UNCOUNTED-CODE"]


@pytest.mark.parametrize(("command", "found"), [("--val-docs 50000", []), ("--val-docs 10000", ["WARN A4-DISJOINT"])])
def test_a_default_that_the_command_overrides(tmp_path, command, found):
    prepare = "p.add_argument('--val-docs', type=int, default=10_000)\n"
    folder = PublicFolder(files={"prepare.py": prepare, "run.sh": f"python prepare.py {command}\n"})
    assert grave(tmp_path, folder, "A4-DISJOINT") == found


def test_a_score_that_is_rounded_twice(tmp_path):
    folder = PublicFolder(metadata={"val_bpb": 1.07932, "seed_results": {}, "val_loss": None, "val_bpb_std": None})
    for run in folder.seeds:
        run.bpb = 1.07931499
    folder.files["README.md"] = "# X\n\nval_bpb: 1.07932\n"
    assert grave(tmp_path, folder, "A9-SCORE-MATCH") == []


def test_bits_a_token_on_step_lines_and_a_mixtures_bpb(tmp_path):
    folder = PublicFolder()
    for run in folder.seeds:
        run.curve_bpb = run.bpb
        run.early = [f"5000/20000 val_loss: 2.8000 val_bpb: {2.8 / math.log(2):.4f}"]
    assert grave(tmp_path, folder) == []
    mixed = PublicFolder()
    for run in mixed.seeds:
        run.after = [f"final_ppm_mix val_loss:{loss_of(run.bpb, TOKENS):.8f} val_bpb:{run.bpb - 0.1:.8f}"]
    mixed.metadata |= {"val_bpb": 0.9805, "seed_results": {}, "val_loss": None, "val_bpb_std": None}
    assert "FAIL A7-BYTES" not in judge(tmp_path / "mixed", mixed)


def test_what_passed_once_and_should_not(tmp_path):
    nan = PublicFolder()
    nan.seeds[0].after = ["legal_ttt val_loss:nan val_bpb:nan eval_time:300000ms"]
    assert "FAIL A9-SCORE-MATCH" in judge(tmp_path / "nan", nan)
    early = PublicFolder(metadata={"val_bpb": 1.0705, "seed_results": {}})
    for run in early.seeds:
        run.curve_bpb = run.bpb - 0.01
    assert "FAIL A9-SCORE-MATCH" in judge(tmp_path / "early", early)
    sizes = PublicFolder(metadata={"bytes_total": None, "seed_results": {"1": {"artifact_bytes": 15_000_000}}})
    assert "WARN A3-CLAIMED-BYTES" in judge(tmp_path / "sizes", sizes)


def test_three_numbers_have_one_verdict_in_both_commands(tmp_path):
    folder = PublicFolder(family="classic")
    path = folder.write(tmp_path)
    verdicts = {i.rule: i.verdict for i in check_folder(path).findings}
    loss, bpb = "2.07", "1.22743594"
    for log in path.glob("*.log"):
        lines = [line for line in log.read_text().splitlines() if not line.startswith(("final_", "step:5000"))]
        log.write_text("\n".join([*lines, f"final_int8_zlib_roundtrip val_loss:{loss} val_bpb:{bpb}"]) + "\n")
    after = {i.rule: i.verdict for i in check_folder(path).findings}
    alone = {f.rule: f.verdict for f in judge_claim(loss, bpb, 62_021_632)}
    assert (verdicts["A7-BYTES"], after["A7-BYTES"]) == (Verdict.PASS, alone["A7-BYTES"])
    assert BYTES == 151_078_222
    assert json.dumps(alone)
