"""Findings that were wrong once: for each the smallest folder that gave it, and where there is one, a real fault."""

import json
import math

import pytest
from public_folders import BYTES, SCRIPT, PublicFolder, loss_of

from harness.review.folder import check_folder
from harness.review.published import judge_claim
from harness.rules import Verdict

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
    folder.metadata["mean_val_loss"] = round(loss_of(1.0705, TOKENS), 8)
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


@pytest.mark.parametrize(("std", "found"), [(0.00068, []), (0.00067, ["WARN A8-STD"])])
def test_a_deviation_over_seeds_of_which_one_has_no_log(tmp_path, std, found):
    scores = {"42": 1.06128183, "314": 1.06086831, "1234": 1.06220261}
    claim = {"val_bpb": 1.06145092, "val_bpb_std": std, "seeds": [*map(int, scores)]}
    folder = PublicFolder(metadata=claim | {"seed_results": {seed: {"val_bpb": x} for seed, x in scores.items()}})
    folder.seeds = folder.seeds[1:]
    for run, seed in zip(folder.seeds, ("314", "1234"), strict=True):
        run.seed, run.bpb = int(seed), scores[seed]
    assert grave(tmp_path, folder, "A8-STD") == found


def test_code_bytes_of_a_second_script(tmp_path):
    folder = PublicFolder(metadata={"bytes_code": 9}, files={"train_gpt_packed.py": "x = 12345"})
    assert grave(tmp_path, folder, "A3-CODE-BYTES") == []
    folder.metadata["bytes_code"] = 7
    assert grave(tmp_path / "x", folder, "A3-CODE-BYTES") == ["WARN A3-CODE-BYTES"]


def test_a_timer_around_others_is_not_added(tmp_path):
    folder = PublicFolder()
    for run in folder.seeds:
        run.eval_ms = 290_000
        run.after = ["ttt_lora:compile warmup done (250.5s)", "total_eval_time:320.0s"]
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


def test_another_name_for_the_pass_above_is_no_second_scoring(tmp_path):
    folder = PublicFolder()
    for run in folder.seeds:
        loss, worse = loss_of(run.bpb, TOKENS), run.bpb + 0.02
        run.early = [f"final_int6_roundtrip_exact val_loss:{loss_of(worse, TOKENS):.8f} val_bpb:{worse:.8f}"]
        run.after = [f"final_int6_roundtrip_exact val_loss:{loss:.8f} val_bpb:{run.bpb:.8f}"]
    assert grave(tmp_path, folder) == []


def test_sections_of_one_file_are_runs(tmp_path):
    folder = without_logs()
    texts = [f"=== variant_{seed} ===\n{text}" for seed, text in logs(folder)]
    folder.files["train_seed1.log"] = "".join(texts)
    folder.files["README.md"] = "# X\n\nval_bpb: 1.0801\n"
    folder.metadata = {"seeds": [1], "val_bpb": 1.0801, "val_bpb_std": None, "seed_results": {}}
    assert grave(tmp_path, folder, "A9-SCORE-MATCH", "A9-SCORER") == []


@pytest.mark.parametrize(("words", "verdict"), [("", "FAIL"), ("Scored on 2,097,152 tokens so far.", "WARN")])
def test_a_part_that_the_folder_calls_one(tmp_path, words, verdict):
    folder = PublicFolder(files={"README.md": f"# X\n\nval_bpb: 1.0805\n\n{words}\n"})
    for run in folder.seeds:
        run.tokens, run.n_bytes = 2_097_152, 7_815_000
    assert grave(tmp_path, folder, "C4-COVERAGE") == [f"{verdict} C4-COVERAGE"]


def test_a_table_of_scores_that_is_not_here_may_hold_the_claim(tmp_path):
    folder = PublicFolder(metadata={"val_bpb": 1.0430, "seed_results": {}})
    assert grave(tmp_path, folder, "A9-SCORE-MATCH") == ["FAIL A9-SCORE-MATCH"]
    entry = {"bytes": 185, "sha256": "0" * 64}
    folder.files["FILES.json"] = json.dumps({"eval_256.csv": entry})
    assert grave(tmp_path / "x", folder, "A9-SCORE-MATCH") == ["WARN A9-SCORE-MATCH"]


def test_a_val_loss_that_is_the_bpb_is_the_claim(tmp_path):
    folder = PublicFolder(metadata={"val_bpb": None, "val_loss": 1.0805, "seed_results": {}})
    assert grave(tmp_path, folder) == ["WARN A9-METADATA"]
    folder.metadata["val_loss"] = 1.0805 - 0.04
    assert "WARN A9-SCORE-MATCH" not in grave(tmp_path / "x", folder)


@pytest.mark.parametrize("line", ["ttt_epoch:{}/3 loss:1.94", "TTT Epoch {} Complete: loss 1.94", "ttt_p2: {}ep SGD"])
def test_epochs_before_the_only_score_and_their_twin_of_chunks(tmp_path, line):
    epochs = [line.format(i) for i in (1, 2, 3)]
    folder, thrown, chunks = PublicFolder(), PublicFolder(), PublicFolder()
    for run, other, legal in zip(folder.seeds, thrown.seeds, chunks.seeds, strict=True):
        run.extra = ["ttt:start lr=0.005 epochs=3", *epochs, "ttt:done elapsed=311.0s"]
        other.extra = ["ttt:start score-first epochs=4 chunk_tokens=131072", "ttt:done chunks=474 elapsed=311.0s"]
        score = f"val_loss={loss_of(legal.bpb, TOKENS):.6f} val_bpb={legal.bpb:.6f}"
        legal.extra = [
            "ttt_sliding:start chunks=1238 chunk_tokens=32768",
            *epochs,
            f"ttt_sliding:done {score} elapsed=311s",
        ]
    found = ["WARN A2-EVAL-CLOCK", "WARN C3-SCORE-BEFORE-UPDATE"]
    assert grave(tmp_path, folder) == grave(tmp_path / "thrown", thrown) == found
    assert grave(tmp_path / "legal", chunks) == []


def test_whose_figure_a_readme_states(tmp_path):
    rows = "| Seed | bpb | parent #2007 bpb |\n|---|---|---|\n| 1* | 1.0801 | 1.0901 |\n| 2 | 1.0809 | 1.0902 |\n"
    rows += "| 3 | 1.0805 | 1.0903 |\n| Mean | 1.0805 | |\n\nBaseline without it (3 seeds):\n\n"
    rows += "| Seed | bpb |\n|---|---|\n| 1 | 1.0911 |\n| 2 | 1.0912 |\n"
    base = "Builds on our prior submission (val_bpb 1.1659).\n\n"
    folder = PublicFolder(files={"README.md": f"# X\n\n{base}The mean is 1.0805.\n\n{rows}"})
    assert grave(tmp_path, folder) == []
    folder.files["README.md"] = "# X\n\n**val_bpb: 1.0777**\n"
    assert grave(tmp_path / "x", folder) == ["WARN A9-README-MATCH"]


def test_a_smaller_size_in_the_json_that_nothing_gives_excuses_no_log(tmp_path):
    folder = PublicFolder(metadata={"bytes_total": 15_749_040, "seed_results": {}})
    for run in folder.seeds:
        run.model_bytes = 16_899_821
    assert "FAIL A3-ARTIFACT-BYTES" in grave(tmp_path, folder)
    folder.files["README.md"] = "# X\n\nval_bpb: 1.0805\n\nRepacked into a smaller artifact after the run.\n"
    folder.files["README.md"] = folder.files["README.md"].replace("Repacked", "Re-packed")
    assert "WARN A3-ARTIFACT-BYTES" in grave(tmp_path / "x", folder)


def test_logs_without_a_seed_are_several_runs(tmp_path):
    folder = without_logs(**{"README.md": "# X\n\nval_bpb: 1.0801\n"})
    folder.metadata = {"val_bpb": 1.0801, "seeds": None, "val_bpb_std": None, "seed_results": {}}
    for number, (seed, text) in enumerate(logs(folder)):
        folder.files[f"out_{number}.txt"] = text.replace(f"  seed: {seed}\n", "")
    found = judge(tmp_path, folder)["WARN A9-SCORE-MATCH"]
    assert "the best of 3 runs" in found.message


@pytest.mark.parametrize(("word", "message"), [("mean", "wrongly rounded"), ("first seed", "one seed's score")])
def test_a_mean_that_is_wrongly_rounded(tmp_path, word, message):
    folder = PublicFolder(
        metadata={"val_bpb": 1.0807, "seed_results": {}}, files={"README.md": f"# X\n\nThe {word}: 1.0807\n"}
    )
    for run, bpb in zip(folder.seeds, (1.08070, 1.08060, 1.08060), strict=True):
        run.bpb = bpb
    assert message in judge(tmp_path, folder)["WARN A9-SCORE-MATCH"].message


README = "# X\n\nval_bpb: 1.0805\n\n{}\n"


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        ("One-sample test: `t=9.06` with `df=2`, which gives `p=0.006`.", []),
        ("Welch: t = -4.19, df = 6.6, **p = 0.00289** (one-sided).", ["WARN A8-TEST"]),
        ("Welch t-test: t=18.37, df=2.38, p<0.001.", []),
        ("Welch t-test: t=-54.93 (df = 3.80), one-sided p < 1e-7.", ["WARN A8-TEST"]),
        ("A one-sided z = -3.00, p = 0.00136 over three seeds.", ["WARN A8-TEST"]),
        ("Each of 8 GPUs runs with a different TTT hyperparameter, best reported.", ["WARN C4-SINGLE-PASS"]),
        ("Grid search T=0.90-1.00 on the quantized model at eval time.", ["WARN C4-SINGLE-PASS"]),
        ("### Concentration sweep (seed 1)", ["WARN C4-SINGLE-PASS"]),
        ("### Concentration sweep on training tokens", []),
        ("3. After all chunks: re-eval with T=0.98.", ["WARN C4-SINGLE-PASS"]),
        ("## Post-TTT temperature (T=0.98)", ["WARN C4-SINGLE-PASS"]),
        ("Softmax at T=1; logits are capped at 30 before and after TTT.", []),
        ("4. Total eval time: ~696s (within 10-min eval budget)", ["WARN A2-EVAL-CLOCK"]),
        ("- Eval: ~465s total (87s sliding + 296s TTT + 82s)", []),
        ("val_bpb: TBD (3-seed mean)", ["WARN A9-METADATA"]),
        ("Status: WIP, awaiting 8xH100 credits.", ["WARN A9-METADATA"]),
        ("3-seed validation is in progress.", ["WARN A9-METADATA"]),
        ("An 8xH100 run of the best recipe is in progress.", ["WARN A9-METADATA"]),
        ("- `train.log`: summarized excerpts from the experiments", ["WARN A9-LOG"]),
        ("- `train.log`: the whole log, with excerpts of the source", []),
        ("Further tuning is future work pending compute.", []),
        ("Runs that were in flight are finished; the status of all seeds is final.", []),
        ("A grid search over learning rates came first; the temperature was fixed at 1.", []),
        ("After training, adapt the model on validation data (SGD, 2 epochs).", ["WARN C3-SCORE-BEFORE-UPDATE"]),
        ("2. Predict probabilities for that chunk using the now-adapted model", ["WARN C3-SCORE-BEFORE-UPDATE"]),
        ("Score-first TTT: each chunk adapts the model to validation data.", []),
        ("| AdamW TTT (10 epochs, cosine) | 330 s |", ["WARN C3-SCORE-BEFORE-UPDATE"]),
        ("Score-first TTT (3 epochs).", []),
        ("3. Score tokens on the final epoch, then the next document.", ["WARN C3-SCORE-BEFORE-UPDATE"]),
        ("3. Score tokens on the first epoch, then train on them.", []),
        ("Included top-3 legal mean.", ["WARN A8-SEEDS"]),
        ("Best seed: 1.0801.", []),
    ],
)
def test_what_a_readme_says_of_tests_and_choices(tmp_path, words, rules):
    folder = PublicFolder(files={"README.md": README.format(words)})
    ids = ("A2-EVAL-CLOCK", "A8-TEST", "A8-SEEDS", "A9-LOG", "A9-METADATA", "C3-SCORE-BEFORE-UPDATE", "C4-SINGLE-PASS")
    assert grave(tmp_path, folder, *ids) == rules


@pytest.mark.parametrize("score", ["1.0805", {"1": 1.0801, "mean": 1.0805}])
def test_a_score_as_text_or_in_an_object_is_compared(tmp_path, score):
    folder = PublicFolder(metadata={"val_bpb": score})
    assert grave(tmp_path, folder) == ["WARN A9-METADATA"]
    folder.metadata["val_bpb"] = json.loads(json.dumps(score).replace("1.0805", "1.0305"))
    assert "FAIL A9-SCORE-MATCH" in grave(tmp_path / "x", folder)


@pytest.mark.parametrize(
    "line", ["TTT BPB: 1.0801", "val_bpb:          1.080100", "final_kv backend:qjl val_loss:2.7912 val_bpb:1.0801"]
)
def test_scores_in_further_forms(tmp_path, line):
    folder = without_logs()
    steps = "".join(f"step {i:5d}/9999 | loss 3.{i} | 29s\n" for i in range(1, 5))
    folder.files["train_seed1.log"] = f"{steps}{line}\n"
    folder.files["README.md"] = "# X\n\nval_bpb: 1.0801\n"
    folder.metadata = {"seeds": [1], "val_bpb": 1.0801, "val_bpb_std": None, "seed_results": {}}
    assert grave(tmp_path, folder, "A9-FILES", "A9-LOG", "A9-SCORE-MATCH") == []
    folder.metadata["val_bpb"] = 1.0701
    del folder.files["README.md"]
    assert grave(tmp_path / "x", folder, "A9-SCORE-MATCH") == ["WARN A9-SCORE-MATCH"]


def test_runs_of_another_scorer_or_of_the_same_seed_are_no_peers(tmp_path):
    folder = PublicFolder(metadata={"seeds": None, "val_bpb": 1.0805, "val_bpb_std": None, "seed_results": {}})
    folder.seeds[0].bpb, folder.seeds[1].bpb = 0.8101, 0.8109
    folder.seeds[0].n_bytes = folder.seeds[1].n_bytes = BYTES * 4 // 3
    assert "one seed's score" not in str(judge(tmp_path, folder).get("WARN A9-SCORE-MATCH"))
    other = PublicFolder()
    ablation = logs(PublicFolder(), settings={"warmup_steps": 0})[0][1]
    other.files["ablation.log"] = ablation
    assert grave(tmp_path / "x", other, "A8-SAME-CONFIG", "A8-SAME-CODE") == []


@pytest.mark.parametrize(
    ("name", "note", "found"),
    [
        ("mixer.py", "", ["WARN A3-NO-UNCOUNTED-CODE"]),
        ("mixer.py", "Includes mixer.py.", []),
        ("mixer.py", "Entropy analysis (mixer.py).", []),
        ("verify_all.py", "", []),
    ],
)
def test_files_beside_a_script_that_is_not_here(tmp_path, name, note, found):
    entries = {file: {"bytes": 900, "sha256": "0" * 64} for file in ("train_gpt.py", name)}
    folder = PublicFolder(metadata={"bytes_code_note": note}, files={"train_gpt.py": None})
    folder.files["FILES.json"] = json.dumps(entries)
    assert grave(tmp_path, folder, "A3-NO-UNCOUNTED-CODE") == found


@pytest.mark.parametrize(
    ("metadata", "words", "lines", "found"),
    [
        ({}, "- **8 layers, 1024d**", ["Model config: {'n_layer': 12, 'n_embd': 640}"], ["WARN A9-README-MATCH"]),
        ({}, "12L, 640d, from 8 layers, 512d", ["Model config: {'n_layer': 12, 'n_embd': 640}"], []),
        ({}, "- 10 layers, 512 dim", ["params:9 layers:9 dim:512 heads:8"], ["WARN A9-README-MATCH"]),
        ({}, "- 10 layers, 512 dim", ["params:9 layers:10 dim:512 heads:8"], []),
        ({}, "- BPB 1.0805\n- Not legal: the gate sees later tokens.", [], ["WARN A9-README-MATCH"]),
        ({}, "- BPB 1.0805\n\n## A first try\n\nNot legal: the gate saw later tokens.", [], []),
    ],
)
def test_a_record_of_another_model_or_of_a_score_that_does_not_count(tmp_path, metadata, words, lines, found):
    folder = PublicFolder(metadata=metadata, files={"README.md": README.format(words)})
    text = folder.seeds[0].log("modern")
    assert "  seed: 1\n" in text
    for run in folder.seeds:
        run.settings = {"note": "\n".join(["x", *lines])}
    assert grave(tmp_path, folder) == found


def test_the_passes_that_a_finding_is_about(tmp_path):
    folder = PublicFolder(metadata={"name": "Cache mixture, an n-gram cache"})
    mixed = PublicFolder(metadata={"val_bpb": 0.9805, "seed_results": {}, "val_loss": None, "val_bpb_std": None})
    for run, other in zip(folder.seeds, mixed.seeds, strict=True):
        worse = run.bpb + 0.02
        run.after = [f"sgd_ttt cache:True val_loss:{loss_of(worse, TOKENS):.8f} val_bpb:{worse:.8f}"]
        other.after = [f"ppm_mixer val_bpb:{other.bpb - 0.1:.8f} eval_time:5ms N_bytes={TOKENS}"]
    found = judge(tmp_path, folder)
    assert sorted(n for n in found if n[:4] == "WARN") == ["WARN A9-SCORER"]
    assert "not in the claimed pass" in found["UNKNOWN C2-NORMALISED"].message
    found = judge(tmp_path / "mixed", mixed)["WARN A7-BYTES"]
    assert "the number of its tokens" in found.message
    for other in mixed.seeds:
        other.after = [other.after[0].replace(str(TOKENS), str(BYTES))]
    assert "WARN A7-BYTES" not in judge(tmp_path / "bytes", mixed)


def test_twins_of_one_severity(tmp_path):
    step = PublicFolder(metadata={"val_bpb": 1.0705, "seeds": [1], "seed_results": {}, "val_bpb_std": None})
    step.seeds[0].curve_bpb = 1.0705
    step.files |= {"train_seed2.log": None, "train_seed3.log": None, "README.md": "# X\n\nval_bpb: 1.0705\n"}
    step.files["baseline_seed1.log"] = logs(step, offset=-0.02)[0][1]
    assert "FAIL A9-SCORE-MATCH" in grave(tmp_path / "step", step)
    large = PublicFolder(
        metadata={"bytes_total": 15_999_900, "seed_results": {}, "compliance": {"artifact_under_16mb": False}}
    )
    for run in large.seeds:
        run.model_bytes = 15_999_900
    assert "FAIL A3-ARTIFACT-BYTES" in grave(tmp_path / "large", large)
    large.metadata["compliance"] = {"artifact_under_16mb": True}
    assert "WARN A3-ARTIFACT-BYTES" in grave(tmp_path / "told", large)
    for status, verdict in (("pending_gpu_validation", "WARN"), ("done", "FAIL")):
        waits = PublicFolder(files={"submission.json": json.dumps({"name": "X", "status": status})})
        assert f"{verdict} A9-METADATA" in grave(tmp_path / status, waits)


def test_a_deviation_is_that_of_its_own_pass(tmp_path):
    folder = PublicFolder(metadata={"val_bpb_std": 0.00033})
    for run, wide in zip(folder.seeds, (0.00033, -0.00033, 0), strict=True):  # whose sample deviation is the same
        other = 1.09 + wide
        run.early = [f"quantized val_loss:{loss_of(other, TOKENS):.8f} val_bpb:{other:.8f}"]
    assert grave(tmp_path, folder, "A8-STD") == ["WARN A8-STD"]


@pytest.mark.parametrize(
    ("line", "share", "found"),
    [
        ("path: d/fineweb10B_sp8192", 1.17, ["WARN A7-BYTES"]),
        ("step 1/7000 | loss 9.0039", 1.17, ["WARN A7-BYTES"]),
        ("step 1/7000 | loss 9.0039", 1.0, []),
        ("path: d/fineweb10B_sp8192_caseops", 1.17, []),
    ],
)
def test_bytes_by_the_tokenizers_name_or_the_first_loss(tmp_path, line, share, found):
    folder = without_logs()
    folder.metadata["val_loss"] = None
    for seed, text in logs(folder, n_bytes=round(BYTES * share)):
        folder.files[f"train_seed{seed}.log"] = text.replace(f"val_tokens: {TOKENS}", line)
    assert grave(tmp_path, folder, "A7-BYTES") == found


def test_figures_that_stand_elsewhere_or_of_passes_that_no_log_has(tmp_path):
    folder = PublicFolder(metadata={"bytes_code": len(SCRIPT) + 1, "score_type": "quantized_sliding_window val_bpb"})
    folder.metadata["seed_results"] = {"1": {"prequant_val_bpb": 1.0911, "artifact_bytes": 15_890_000}}
    table = "| Seed | bpb |\n|---|---|\n| 1 | 1.0911 |\n| 2 | 1.0912 |\n"
    folder.files["README.md"] = f"# X\n\nval_bpb: 1.0805\n\nSupplemental, not part of the claim:\n\n{table}"
    for run in folder.seeds:
        worse = run.bpb + 0.02
        run.extra, run.code_bytes = ["exported: 15890000 bytes"], len(SCRIPT.encode())
        run.after = [f"sgd_ttt val_loss:{loss_of(worse, TOKENS):.8f} val_bpb:{worse:.8f} eval_time:1ms"]
    texts = {f"train_seed{run.seed}.log": run.log("modern").splitlines() for run in folder.seeds}
    early = ("5000/20000 val_loss", "pre-quantization", "Code size: None")
    folder.files |= {name: "\n".join(x for x in text if not x.startswith(early)) for name, text in texts.items()}
    assert grave(tmp_path, folder) == []
    folder.metadata |= {"score_type": "", "bytes_code": len(SCRIPT) + 2}
    assert grave(tmp_path / "x", folder) == ["WARN A3-CODE-BYTES", "WARN A9-SCORER"]


def test_a_helper_that_the_logged_code_size_counts(tmp_path):
    entries = {file: {"bytes": 900, "sha256": "0" * 64} for file in ("train_gpt.py", "mixer.py")}
    folder = PublicFolder(files={"train_gpt.py": None, "FILES.json": json.dumps(entries)})
    for run in folder.seeds:
        run.code_bytes = 1_800
    assert grave(tmp_path, folder, "A3-NO-UNCOUNTED-CODE") == []
    folder.seeds = PublicFolder().seeds
    assert grave(tmp_path / "x", folder, "A3-NO-UNCOUNTED-CODE") == ["WARN A3-NO-UNCOUNTED-CODE"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("gptq:using validation data for calibration (256 seqs x 2048 tokens)", ["WARN A4-TRAIN-NO-VAL"]),
        ("quant_calib:val_tail sequences=32", ["WARN A4-TRAIN-NO-VAL"]),
        ("candidate_eval:best_ckpt_step_58 val_loss:1.9708 val_bpb:1.1672", ["WARN C4-SINGLE-PASS"]),
        ("best_averaging:ema val_bpb:1.1279", ["WARN C4-SINGLE-PASS"]),
        ("ema:reverting to raw final weights (raw_val_bpb:1.1887 raw_val_loss:2.0070)", ["WARN C4-SINGLE-PASS"]),
        ("EMA improved val_bpb (1.1682 -> 1.1661), keeping EMA weights", ["WARN C4-SINGLE-PASS"]),
        ("  → SWA wins! (1.2420 < 1.2633)", ["WARN C4-SINGLE-PASS"]),
        ("ema:applying EMA weights to 74 tensors (decay=0.997)", []),
        ("gptq:using training data for calibration (256 seqs x 2048 tokens)", []),
        ("quant_calib:train_tail sequences=32", []),
    ],
)
def test_validation_text_that_a_line_of_the_log_names(tmp_path, line, found):
    folder = PublicFolder()
    for run in folder.seeds:
        run.early = [line]
    assert grave(tmp_path, folder, "A4-TRAIN-NO-VAL", "C4-SINGLE-PASS") == found


@pytest.mark.parametrize(("size", "found"), [(15_890_000, []), (15_880_000, ["WARN A3-CLAIMED-BYTES"])])
def test_the_size_of_the_claimed_of_two_runs_of_one_seed_is_its_own(tmp_path, size, found):
    claim = {"val_bpb": 1.08013, "bytes_total": size + len(SCRIPT), "seeds": [1], "seed_results": {}}
    folder = without_logs(**{"README.md": "# X\n\nval_bpb: 1.0801\n"})
    folder.metadata = claim | {"val_bpb_std": None, "val_loss": None}
    for name, model, offset in (("train", 15_890_000, 3e-5), ("third", 15_880_000, 4e-5), ("repeat", 15_900_000, 5e-5)):
        folder.files[f"{name}.log"] = logs(folder, offset=offset, model_bytes=model)[0][1]
    assert grave(tmp_path, folder, "A3-CLAIMED-BYTES") == found


@pytest.mark.parametrize(
    ("shift", "words", "found"),
    [(0.02, "", ["WARN A9-SCORER"]), (-0.02, "", []), (0.02, "The submission metric: quantized_sliding_window", [])],
)
def test_a_later_pass_that_is_better_or_that_the_readme_puts_aside(tmp_path, shift, words, found):
    folder = PublicFolder()
    for run in folder.seeds:
        other = run.bpb + shift
        run.after = [f"sgd_ttt val_loss:{loss_of(other, TOKENS):.8f} val_bpb:{other:.8f} eval_time:1ms"]
    folder.files["README.md"] = f"{folder.readme()}\n{words}\n"
    assert grave(tmp_path, folder, "A9-SCORER") == found


LINES = {"train_shards: 80": "train_shards: 39", f"{15_900_000 + len(SCRIPT)} bytes": "15912436 bytes"}
LINES |= {f"val_tokens: {TOKENS}": f"train_seq_len: 2048\nval_tokens: {TOKENS - 20_480}"}
RULES = ("A8-SAME-CONFIG", "A3-CODE-BYTES", "C4-COVERAGE")


@pytest.mark.parametrize(("line", "rule"), [*zip(LINES, RULES, strict=True)])
def test_one_log_whose_lines_do_not_fit_each_other_or_the_other_logs(tmp_path, line, rule):
    folder = without_logs()
    folder.files |= {f"train_seed{seed}.log": text for seed, text in logs(folder)}
    assert grave(tmp_path, folder, rule) == []
    folder.files["train_seed2.log"] = folder.files["train_seed2.log"].replace(line, LINES[line])
    assert grave(tmp_path / "x", folder, rule) == [f"WARN {rule}"]
    folder.files["train_seed2.log"] = folder.files["train_seed2.log"].replace("seq_len: 2048", "seq_len: mixed")
    assert grave(tmp_path / "y", folder, rule) == [f"WARN {rule}"] * (rule != "C4-COVERAGE")


@pytest.mark.parametrize(("seeds", "total", "found"), [(1, 0, 1), (5, 15_900_000, 0)])
def test_figures_of_a_folder_without_logs(tmp_path, seeds, total, found):
    folder = without_logs(**{"README.md": "# X\n\nval_bpb: 1.0801\n"})
    folder.metadata = {"val_bpb": 1.0801, "seeds": seeds, "seed_results": {}, "bytes_total": total, "val_loss": 1.9}
    assert len(grave(tmp_path, folder, "A9-METADATA")) == found
    assert len(grave(tmp_path / "x", folder, "A8-SEEDS")) == (seeds == 1)


def test_loss_and_bpb_of_the_json_belong_together(tmp_path):
    folder = PublicFolder()
    assert grave(tmp_path, folder, "A7-BYTES") == []
    folder.metadata["val_loss"] = round(1.002 * loss_of(1.0805, TOKENS), 5)
    assert grave(tmp_path / "apart", folder, "A7-BYTES") == ["WARN A7-BYTES"]


def test_logs_that_only_score_beside_logs_that_train(tmp_path):
    line = f"legal_ttt val_loss:{loss_of(1.0705, TOKENS):.8f} val_bpb:1.07050000 eval_time:300000ms\n"
    folder = without_logs(**{"eval_seed1.log": f"val_tokens: {TOKENS}\n{line}"})
    assert "WARN A9-LOG" in grave(tmp_path, folder)
    folder.files["train_seed1.log"] = dict(logs(folder))[1]
    assert "WARN A9-LOG" not in grave(tmp_path / "trained", folder)


@pytest.mark.parametrize(("code", "found"), [(0, ["WARN A3-CLAIMED-BYTES", "WARN A9-README-MATCH"]), (len(SCRIPT), [])])
def test_the_size_of_a_seed_that_is_its_model_alone(tmp_path, code, found):
    folder = PublicFolder(metadata={"seed_results": {"1": {"val_bpb": 1.0801, "artifact_bytes": 15_900_000 + code}}})
    folder.files["README.md"] = f"# X\n\nval_bpb: 1.0805\n\nArtifact size: {15_900_000 + code:,} bytes\n"
    assert grave(tmp_path, folder, "A3-CLAIMED-BYTES", "A9-README-MATCH") == found


@pytest.mark.parametrize(("tokens", "found"), [(1_209_536, ["WARN C4-COVERAGE"]), (TOKENS, [])])
def test_a_claimed_pass_of_a_part_of_the_text(tmp_path, tokens, found):
    folder = PublicFolder()
    for run in folder.seeds:
        run.after = [f"quantized_sliding_window cond_mix_bpb=1.03 tokens={tokens}", f"{' ' * 200}bpb=1.03 tokens=5"]
    assert grave(tmp_path, folder, "C4-COVERAGE") == found


@pytest.mark.parametrize(("other", "found"), [(2, ["WARN A3-CODE-BYTES", "WARN A8-SAME-CODE"]), (1, [])])
def test_scripts_of_several_sizes_that_are_none_of_the_shipped_ones(tmp_path, other, found):
    folder = PublicFolder()
    for run in folder.seeds:
        run.code_bytes = len(SCRIPT) + (900 + run.seed if other == 2 else 0)
    assert grave(tmp_path, folder, "A3-CODE-BYTES", "A8-SAME-CODE") == found


@pytest.mark.parametrize(("pod", "size", "found"), [("1xH100 80GB", "estimated_total", 2), ("8xH100 80GB", "total", 0)])
def test_words_of_the_json_below_its_top(tmp_path, pod, size, found):
    folder = without_logs()
    folder.metadata = {
        "hardware": {"training": {"validation_pod": pod}},
        "artifact": {"of": {f"{size}_bytes": 15_993_558}},
    }
    assert len(grave(tmp_path, folder, "A1-HARDWARE", "A3-CLAIMED-BYTES")) == found


@pytest.mark.parametrize(("size", "found"), [(16_050_000, ["WARN A3-ARTIFACT-BYTES"]), (15_950_000, [])])
def test_a_baseline_over_the_cap_in_a_folder_that_claims_no_score(tmp_path, size, found):
    folder = without_logs(**{"train_seed1.log": logs(PublicFolder())[0][1]})
    folder.files["baseline_seed1.log"] = logs(folder, offset=0.01, model_bytes=size)[0][1]
    folder.metadata = {"val_bpb": None, "seeds": None, "seed_results": {}, "bytes_total": None}
    assert grave(tmp_path, folder, "A3-ARTIFACT-BYTES") == found


def test_one_of_two_runs_of_a_seed_is_no_mean(tmp_path):
    folder = without_logs(**{"README.md": "# X\n\nval_bpb: 1.0801\n"})
    folder.files |= {f"{n}.log": logs(folder, offset=x)[0][1] for n, x in (("train", 0.0), ("export", 6e-5))}
    folder.metadata = {"val_bpb": 1.0801, "seeds": [1], "seed_results": {}, "val_bpb_std": None}
    claim = [i.message for i in check_folder(folder.write(tmp_path)).findings if i.rule == "A9-SCORE-MATCH"]
    assert len(claim) == 1
    assert "the claim is the score" in claim[0]
