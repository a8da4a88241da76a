"""What folders say in words and figures: methods, chosen seeds, JSON and README figures that no log gives."""

import json

import pytest
from public_folders import SCRIPT, PublicFolder

from harness.review.folder import check_folder
from harness.rules import Verdict


def grave(tmp_path, folder, rule):
    report = check_folder(folder.write(tmp_path))
    return [i for i in report.findings if i.rule == rule and i.verdict in (Verdict.FAIL, Verdict.WARN)]


def readme():
    """A README that agrees with the logs of a folder that is written as it is."""
    folder = PublicFolder()
    for run in folder.seeds:
        run.code_bytes = len(folder.script.encode())
    return folder.readme()


def metadata(**changes):
    return PublicFolder(metadata=changes)


METHODS = [
    ("A4-TRAIN-NO-VAL", Verdict.WARN, "9 layers, val-only training, STE"),
    ("A4-TRAIN-NO-VAL", Verdict.WARN, "A run trained entirely on the validation shard"),
    ("A4-TRAIN-NO-VAL", Verdict.WARN, "Val-calibrated GPTQ at 6 bits"),
    ("A9-TRACK", Verdict.WARN, "Non-record: what did not help"),
    ("A9-TRACK", Verdict.WARN, "non_record_exploratory"),
    ("A9-TRACK", Verdict.WARN, "This does **not** claim a new SOTA record."),
    ("A9-TRACK", Verdict.WARN, "No new score is claimed here."),
    ("A8-SEEDS", Verdict.WARN, "Best: seed=1 on 8xH100"),
    ("C2-NORMALISED", Verdict.WARN, "QAT + Neural Cache + LoRA"),
    ("C2-NORMALISED", Verdict.WARN, "Kitchen Sink: 7-gram + XSA6"),
    ("C3-SCORE-BEFORE-UPDATE", Verdict.WARN, "11L + EMA + TTT + XSA"),
    ("A9-METADATA", Verdict.WARN, "val_bpb: PENDING (3-seed mean)"),
    ("A4-PAID-PREFIX", Verdict.WARN, "8L Paid Prefix + SmearGate"),
    ("A6-PREQUANT-TTT", Verdict.WARN, "SP8192 + Parallel Pre-Quant AdamW TTT"),
    ("C2-NORMALISED", Verdict.WARN, "11L + 5-gram Eval Cache"),
    ("C2-NORMALISED", Verdict.WARN, "Adaptive N-gram Cache (2->7 backoff)"),
    ("C2-NORMALISED", Verdict.WARN, "PPM mixture over bytes"),
    ("C2-NORMALISED", Verdict.WARN, "Packed Causal N-gram + Dirichlet Backoff"),
    ("A4-EVAL-NO-DATA", Verdict.WARN, "A bigram table, computed from training data at startup"),
    ("A9-METADATA", Verdict.WARN, "8x H100 run, pending compute grant"),
    ("A9-METADATA", Verdict.WARN, "Estimated val_bpb: 1.16, by extrapolation"),
    ("A9-METADATA", Verdict.WARN, "Two logs are here. Seed 42 pending."),
    ("A9-METADATA", Verdict.WARN, "This folder is **not a new submission yet**."),
    ("A9-METADATA", Verdict.WARN, "| This submission (projected) | 1.117 |"),
    ("A3-ARTIFACT-BYTES", Verdict.WARN, "| 42 | 1.1428 | 16,645,615 | No (over 16MB) |"),
    ("A9-LOG", Verdict.WARN, "The full run waits for a grant. Placeholder log included."),
    ("C3-SCORE-BEFORE-UPDATE", Verdict.WARN, "Muon + SLOT at evaluation"),
    ("C3-SCORE-BEFORE-UPDATE", Verdict.WARN, "Non-Record: SLOT + CTW"),
    ("C4-SINGLE-PASS", Verdict.WARN, "Two-pass evaluation with a full cache"),
]


@pytest.mark.parametrize(("rule", "verdict", "words"), METHODS)
def test_a_method_in_the_blurb_is_named_by_its_rule(tmp_path, rule, verdict, words):
    found = grave(tmp_path, metadata(blurb=words), rule)
    assert [(i.verdict, i.file) for i in found] == [(verdict, "submission.json")]


@pytest.mark.parametrize(
    "words",
    [
        "No val-only training, no pre-quant TTT and no SLOT.",
        "Non-record: SLOT Violates Causality",
        "GPTQ calibrated on train text, validated on the validation set; a new record.",
        "Score-first TTT, not two-pass; replaces the n-gram cache.",
        "Trained on train shards; validated on the validation set.",
        "An ablation's runs on 1xH100, single-GPU evaluation just faster; it does not claim a new SOTA technique.",
        "A bigram hash; TTT was tested and is neutral. Best: layers=9.",
        "A time slot of ten minutes, without paid prefix. The estimated gain in bpb is small; no placeholder log.",
        "PR 42, which was over 16 MB, projected 1.117; this submission has 1.1428 and 15.9 MB.",
        "3 seeds, 2 additional pending compute grant. Frozen layers, recomputed at load time from a seed.",
    ],
)
def test_a_method_that_is_denied_is_not_named(tmp_path, words):
    report = check_folder(metadata(blurb=words).write(tmp_path))
    named = [i.rule for i in report.findings if "own words" in i.message or "calls itself" in i.message]
    assert named == ["A9-TRACK"] * words.startswith("Non-record")


def test_a_readme_that_compares_with_other_records_is_not_taken_at_their_word(tmp_path):
    text = readme() + "\nPR #1 has SLOT and an n-gram cache. PR #2 trains on validation data.\n"
    report = check_folder(PublicFolder(files={"README.md": text}).write(tmp_path))
    assert not [i for i in report.findings if "own words" in i.message]


@pytest.mark.parametrize(
    "text",
    [
        *("Submitted run: seed 2 (best). Spread 0.0007.", "We report the best 3 of 7.", "best score across 4 seeds"),
        "Mean of the 5 lowest = 1.0805 (reported here).",
    ],
)
def test_chosen_seeds_in_the_readme_are_named(tmp_path, text):
    folder = PublicFolder(files={"README.md": readme() + "\n" + text + "\n"})
    assert grave(tmp_path, folder, "A8-SEEDS")


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_quant_val_bpb": 1.0799},
        {"step_stop": 4_321},
        {"bytes_model_int6": 15_123_456},
        {"model_params": 35_844_887},
        {"seed_results": {"1": {"quantized_bpb": 1.0666}}},
    ],
)
def test_json_figures_that_no_log_gives_are_named(tmp_path, changes):
    folder = metadata(**changes)
    folder.seeds[0].extra = ["  ttt_chunk [11/1893] bpb=1.0666 time=2.3s"]  # no score of the run
    assert any("not what the log" in i.message for i in grave(tmp_path, folder, "A9-JSON-MATCH"))


def test_figures_kept_in_a_nested_object_are_read(tmp_path):
    plain = PublicFolder().derived()
    del plain["val_bpb"], plain["seed_results"]
    nested = plain | {"results": {"seeds": {"1": {"val_bpb": 1.0801}}, "mean_val_bpb": 1.0805}}
    report = check_folder(PublicFolder(files={"submission.json": json.dumps(nested)}).write(tmp_path))
    assert report.facts["claimed_bpb"] == 1.0805


def test_a_placeholder_is_no_name(tmp_path):
    assert grave(tmp_path, metadata(github_id="__FILL_IN__"), "A9-METADATA")[0].message.endswith("holds a placeholder.")


README = """
| Metric | Value |
|---|---|
| Total submission size | {total} bytes |
| Code size | {code:,} bytes |
| Int6 sliding val_bpb | {bpb} |

- Steps: 5,000
"""


def test_key_facts_of_the_readme_are_compared_with_the_logs(tmp_path):
    folder = PublicFolder()
    code = len(folder.script.encode())
    total = 15_900_000 + code
    right = readme() + README.format(total=f"{total:,}", code=code, bpb="1.0801")
    wrong = readme() + README.format(total=f"{total + 2000:,}", code=code + 9, bpb="1.0777")
    assert not grave(tmp_path / "right", PublicFolder(files={"README.md": right}), "A9-README-MATCH")
    found = grave(tmp_path / "wrong", PublicFolder(files={"README.md": wrong}), "A9-README-MATCH")
    (only,) = found
    text = f"{only.message} {only.more}"
    assert all(word in text for word in ("Total submission size", "Code size", "val_bpb"))


def test_sizes_of_other_records_are_not_held_against_a_folder(tmp_path):
    text = readme() + (
        "\n| | PR #70 | This |\n|---|---|---|\n| Artifact | 14.9 MB | 15.9 MB |\n"
        "\nThe artifact of PR #164 has 15.4 MB.\n"
    )
    assert not grave(tmp_path, PublicFolder(files={"README.md": text}), "A9-README-MATCH")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("docs/REPORT.md", "REPORT.md"),
        ("train_gpt.py", ""),
        ("../2026-03-17_Base/REPORT.md", ""),
        ("https://x.y/z.md", ""),
    ],
)
def test_links_of_the_readme_lead_to_files_of_the_folder(tmp_path, target, named):
    folder = PublicFolder(files={"README.md": f"{readme()}\nSee [there]({target}).\n"})
    assert [i.found for i in grave(tmp_path, folder, "A9-FILES")] == [named] * bool(named)


def test_a_temperature_of_one_is_none(tmp_path):
    folder = PublicFolder()
    folder.seeds[0].extra = ["TTT temperature: 1.0"]
    assert not grave(tmp_path, folder, "C4-SINGLE-PASS")


def test_a_readme_under_another_name_is_read(tmp_path):
    folder = PublicFolder(files={"README.md": None, "V2_README.md": "# X\n\nval_bpb: 1.0705\n"})
    assert [i.verdict for i in grave(tmp_path, folder, "A9-README-MATCH")] == [Verdict.WARN]


@pytest.mark.parametrize(
    ("rule", "changes", "named"),
    [
        ("A9-JSON-MATCH", {"seed_results": {"1": {"val_bpb": 1.0851}, "2": {"val_bpb": 1.0859}}}, True),
        ("A9-JSON-MATCH", {"val_loss_seeds": {"1": 2.7901, "2": 2.7921, "3": 2.7911}}, False),
        ("A3-CODE-BYTES", {"bytes_code": 1}, True),
        ("A3-CODE-BYTES", {"bytes_code": 0}, False),
        ("A3-CLAIMED-BYTES", {"bytes_total": 15_900_001, "bytes_model_int6": 15_900_000}, True),
        ("A3-CLAIMED-BYTES", {"bytes_total": 15_901_000, "bytes_model_int6": 15_900_000}, False),
        ("A3-CLAIMED-BYTES", {"bytes_total": "15900001", "bytes_model_int6": 15_900_000}, True),
        ("A3-CLAIMED-BYTES", {"bytes_total": 10_500_000}, True),
        ("A8-STD", {"val_bpb_std": 0.00033}, True),
        ("A8-STD", {"val_bpb_std": 0.0004}, False),
        ("C4-COVERAGE", {"name": "SP8192 + XSA", "val_bpb": 1.41, "val_loss": 2.3807}, True),
        ("C4-COVERAGE", {"name": "SP1024 + XSA", "val_bpb": 1.41, "val_loss": 2.3807}, False),
    ],
)
def test_a_json_that_contradicts_itself_or_the_script_needs_no_log(tmp_path, rule, changes, named):
    folder = PublicFolder(script="x = 1\n" * 200, metadata=changes)
    folder.files = {f"train_seed{run.seed}.log": None for run in folder.seeds}
    assert bool(grave(tmp_path, folder, rule)) is named


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("The schedule was strong enough to beat `1.0810`.", "by less"),
        ("The schedule was strong enough to beat `1.0930`.", ""),
        ("Delta to PR #1 (1.0900 BPB): -0.0095 nats.", "called nats"),
        ("Delta to PR #1 (1.0900 BPB): -0.0245 nats.", ""),
        ("Built on PR #1 (SP8192, 1.0815 BPB).", "by less"),
        ("Built on PR #1 (SP8192, 1.0915 BPB).", ""),
        ("Built on PR #1; seed 2 has 1.0809 BPB.", ""),
    ],
)
def test_a_gain_is_enough_and_in_its_own_unit(tmp_path, line, named):
    text = readme().replace("# Made up", f"# Record: made up\n\n{line}")
    found = grave(tmp_path, PublicFolder(files={"README.md": text}), "A8-MARGIN")
    assert [named in i.message for i in found] == [True] * bool(named)


@pytest.mark.parametrize(
    ("column", "cell", "named"),
    [
        ("Train time", "588.0s", ""),
        ("Train time", "596.2s", "588.01 s"),
        ("Train ms", "588,010", ""),
        ("Train ms", "588,310", "588.01 s"),
        ("Step avg", "117.6ms", ""),
        ("Step avg", "116.0ms", "0.117602 s"),
        ("Eval time", "~300s", ""),
        ("Eval time", "305.6s", ""),  # with the pass before packing
        ("Eval time", "290s", "300 s"),
        ("Eval time", "5:00", ""),  # not seconds
        ("Post-quant BPB", "1.0991", ""),
        ("Post-quant BPB", "1.0801", "another pass"),
        ("Post-quant sliding BPB", "1.0801", ""),
    ],
)
def test_times_and_passes_in_a_readme_s_table_of_seeds_are_the_log_s(tmp_path, column, cell, named):
    folder = PublicFolder()
    folder.seeds[0].extra = ["quantized val_loss:2.8390 val_bpb:1.0991"]
    folder.files["README.md"] = f"{readme()}\n| Seed | {column} |\n|---|---|\n| 1 | {cell} |\n| Mean | |\n"
    found = grave(tmp_path, folder, "A9-README-MATCH")
    assert [named in i.computed for i in found] == [True] * bool(named)


@pytest.mark.parametrize(("figures", "named"), [((588.0, 5000), False), ((600, 5000), True), ((588.0, 4175), True)])
def test_clock_and_steps_of_the_json_are_the_claimed_runs(tmp_path, figures, named):
    other = PublicFolder().seeds[0].log("modern").replace("588010", "600000")
    folder = metadata(training_time_seconds=figures[0], training_steps=figures[1])
    folder.files["ablation.log"] = other.replace("5000/20000", "4175/20000").replace("1.08", "1.19")
    assert bool(grave(tmp_path, folder, "A9-JSON-MATCH")) is named


@pytest.mark.parametrize(("dim", "named"), [(448, True), (512.0, False)])
def test_a_model_of_the_readme_is_that_of_the_json(tmp_path, dim, named):
    text = readme() + "\n- Layout: `NUM_LAYERS=9 MODEL_DIM=512`\n"
    folder = PublicFolder(metadata={"num_layers": 9, "model_dim": dim}, files={"README.md": text})
    assert bool(grave(tmp_path, folder, "A9-README-MATCH")) is named


@pytest.mark.parametrize(("trained", "named"), [("2.1001", True), ("1.7201", False)])
def test_a_training_loss_goes_with_the_score(tmp_path, trained, named):
    log = f"step    1/9999 | loss 6.9316 | 3s\nstep 2200/9999 | loss {trained} | 579s\n\nQuantized BPB: 1.0157\n"
    folder = PublicFolder(metadata={"val_bpb": 1.0157, "val_loss": None, "seeds": [1], "seed_results": {}})
    folder.files = {f"train_seed{run.seed}.log": log if run.seed == 1 else None for run in folder.seeds}
    assert bool(grave(tmp_path, folder, "A7-BYTES")) is named


@pytest.mark.parametrize(("size", "named"), [(73, True), (50_000, False)])
def test_a_script_that_can_only_run_another_file_needs_it(tmp_path, size, named):
    sizes = {"train_gpt.py": size, "train_gpt_human.py": 115_605}
    listing = {name: {"bytes": n, "sha256": "0" * 64} for name, n in sizes.items()}
    folder = PublicFolder(files={"train_gpt.py": None, "FILES.json": json.dumps(listing)})
    found = grave(tmp_path, folder, "A3-NO-UNCOUNTED-CODE")
    assert [i.computed.split(" bytes")[0] for i in found] == [f"with the logged {15_900_000 + len(SCRIPT):,}"] * named


@pytest.mark.parametrize(("cap", "named"), [("599.0", True), ("600.0", False)])
def test_all_seeds_run_with_one_cap(tmp_path, cap, named):
    folder = PublicFolder()
    for run, seconds in zip(folder.seeds, ("600.0", cap, cap), strict=True):
        run.settings["max_wallclock_seconds"] = seconds
    assert bool(grave(tmp_path, folder, "A8-SAME-CONFIG")) is named


def test_evaluations_that_print_no_loss_are_summed_once(tmp_path):
    folder = PublicFolder()
    for run in folder.seeds:
        run.extra = [f"{name}_eval val_bpb:1.0900 eval_time:160000ms" for name in ("ema", "swa")]
        run.after = ["Using ema weights (val_bpb=1.0900)"]
    (found,) = grave(tmp_path, folder, "A2-EVAL-CLOCK")
    assert "all passes 625.6 s" in found.found  # 5.6 + 160 + 160 + 300
    assert grave(tmp_path / "again", folder, "C4-SINGLE-PASS")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("Total train tokens seen: `2622488576`", True),
        ("Total train tokens seen: `2,621,440,000`", False),  # 5,000 steps of 524,288
        ("Total train tokens seen by PR #1: 2,622,488,576", False),
        ("A model of 35.2M parameters", True),
        ("A model of 35.9M parameters", False),
        ("4948 steps in 588s on 8xH100", True),
        ("5000 steps in 588s on 8xH100", False),
        ("Unfused 4,890 steps → fused 4,948 steps in 588s", False),
        ("Peak memory: `10,301 MiB` a GPU", True),
        ("Peak memory: ~10,100 MiB a GPU", False),
    ],
)
def test_what_a_sentence_of_the_readme_says_of_the_run_follows_from_the_log(tmp_path, line, named):
    folder = PublicFolder(files={"README.md": f"{readme()}\n- {line}\n"})
    for run in folder.seeds:
        run.settings = {"train_batch_tokens": 524_288}
        run.early = ["peak memory allocated: 10121 MiB reserved: 10440 MiB"]
    assert bool(grave(tmp_path, folder, "A9-README-MATCH")) is named


@pytest.mark.parametrize(
    ("name", "setting", "named"),
    [
        ("11L + Dropout + EMA", {"dropout": 0.0}, True),
        ("11L + Dropout + EMA", {"dropout": 0.1, "ema_enabled": True}, False),
        ("11L, no dropout, XSA", {"dropout": 0.0, "xsa_last_n": 4}, False),
        ("11L + 3-layer recurrence", {"recur_layers": ""}, True),
        ("11L + 3-layer recurrence", {"recur_layers": "4,5"}, False),
    ],
)
def test_a_method_of_the_name_is_not_switched_off_in_the_logs(tmp_path, name, setting, named):
    folder = metadata(name=name)
    for run in folder.seeds:
        run.settings = setting
    assert bool(grave(tmp_path, folder, "A9-README-MATCH")) is named


@pytest.mark.parametrize(("setting", "named"), [({"ttt_hash_embed": True}, True), ({"ttt_hash_embed": False}, False)])
def test_a_switch_that_one_seed_alone_has(tmp_path, setting, named):
    folder = PublicFolder()
    folder.seeds[0].settings = setting
    assert bool(grave(tmp_path, folder, "A8-SAME-CONFIG")) is named


@pytest.mark.parametrize(("tokens", "named"), [(40_542_144, True), (40_540_160, False)])
def test_no_token_is_scored_twice(tmp_path, tokens, named):
    folder = PublicFolder()
    folder.seeds[0].extra = [f"  ngram_eval DONE: bpb=1.080100 tokens={tokens} t=138s"]
    assert bool(grave(tmp_path, folder, "C4-SINGLE-PASS")) is named


@pytest.mark.parametrize(("size", "named"), [("14.81 MB", True), ("15.52 MB", False)])
def test_an_artifact_line_with_commas_is_a_size(tmp_path, size, named):
    text = f"# Made up\n\n**val_bpb: 1.0805** | {size} | 8xH100\n"
    folder = PublicFolder(files={"README.md": text})
    for run in folder.seeds:
        run.model_bytes = 15_524_240
        line = "Artifact: 15,524,240 bytes (14.81 MB)"
        log = [x for x in run.log("modern").split("\n") if not x.startswith(("Serialized", "Total", "Code"))]
        folder.files[f"train_seed{run.seed}.log"] = "\n".join([*log[:-3], line, *log[-3:]])
    assert bool(grave(tmp_path, folder, "A9-README-MATCH")) is named


def test_logs_of_the_record_to_be_beaten_are_no_logs(tmp_path):
    folder = PublicFolder().write(tmp_path)
    report = check_folder(folder, against=PublicFolder(name="Before").write(tmp_path))
    assert any(i.rule == "A9-LOG" and "byte for byte" in i.message for i in report.findings)


@pytest.mark.parametrize(("first", "named"), [("5000/20000 val_loss", True), ("model_params:", False)])
def test_a_log_that_begins_within_a_run(tmp_path, first, named):
    folder = PublicFolder()
    text = folder.seeds[0].log("modern")
    folder.files["train_seed1.log"] = text[text.index(first) :]
    assert bool(grave(tmp_path, folder, "A9-LOG")) is named


@pytest.mark.parametrize(("score", "named"), [(0.2441, True), (1.0790, False)])
def test_no_claimed_run_trains_to_a_score_that_no_method_reaches(tmp_path, score, named):
    folder = PublicFolder()
    folder.seeds[1].curve_bpb = score
    assert bool(grave(tmp_path, folder, "S6-PLAUSIBLE")) is named


@pytest.mark.parametrize(("seconds", "named"), [(13.3, True), (8.3, False)])
def test_calibrations_and_tables_by_other_words_are_timed(tmp_path, seconds, named):
    folder = PublicFolder()
    text = folder.seeds[0].log("modern")
    for line, what in (("gptq:loop-aware calibrated 41 layers", "Hessians"), ("ngram_artifact: built", "tables")):
        changed = text.replace("GPTQ:collected 67 Hessians in 8.2s", f"{line} in {seconds}s")
        folder.files["train_seed1.log"] = changed.replace("GPTQ:collecting Hessians from calibration data...\n", "")
        found = grave(tmp_path / what, folder, "A1-CALIBRATION")
        assert [f"{what} {seconds} s" in i.found for i in found] == [True] * named


@pytest.mark.parametrize(("shards", "named"), [(105, True), (80, False)])
def test_all_seeds_have_the_same_data(tmp_path, shards, named):
    folder = PublicFolder()
    folder.seeds[0].shards = shards
    assert bool(grave(tmp_path, folder, "A8-SAME-CONFIG")) is named


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "Record (val_bpb=1.0801)"}, True),
        ({"name": "Record (val_bpb=1.0805)"}, False),
        ({"name": "Record (val_bpb=1.081)"}, False),
        ({"seed_1": {"val_bpb": 0.3736}, "seed_2": {"val_bpb": 0.2441}}, True),
        ({"seed_1": {"val_bpb": 1.0801}, "seed_2": {"val_bpb": 1.0809}}, False),
        ({"seed_1": {"val_bpb": 1.0711}, "seed_2": {"val_bpb": 1.0712}, "baseline": {"val_bpb": 1.09}}, True),
    ],
)
def test_the_scores_of_the_json_are_of_one_pass(tmp_path, changes, named):
    folder = metadata(seed_results=None, seeds=None, **changes)
    assert bool(grave(tmp_path, folder, "A9-JSON-MATCH")) is named


@pytest.mark.parametrize(
    ("size", "named"), [("~15.7 MB", True), ("15.16 MB", True), ("~15.9 MB", False), ("15.12 MB", False)]
)
def test_the_size_in_a_headline_is_an_artifact_s_in_decimal_megabytes(tmp_path, size, named):
    text = readme().replace("# Made up\n", f"# Made up\n\n**val_bpb: 1.0805** | {size} | 8xH100\n")
    text += "\nWithout it the model has 15,123,456 bytes.\n"
    assert bool(grave(tmp_path, PublicFolder(files={"README.md": text}), "A9-README-MATCH")) is named


START = "ttt_sliding:start chunks=1893 ttt_lr={} ttt_epochs=3 freeze_blocks=0"
PRUNED = "pruning: zeroed 809,024 weights ({}%) below 0.0036"


@pytest.mark.parametrize(
    ("line", "other", "named"),
    [
        (START.format("0.002"), START.format("2e-4"), True),
        (START.format("0.002"), START.format("2e-3"), False),
        (PRUNED.format("3.0"), PRUNED.format("5.0"), True),
        (PRUNED.format("3.1"), PRUNED.format("3.2"), False),  # what a threshold gave
        ("late_qat:enabled step:5259 decay=0.1500", "late_qat:enabled step:5241 decay=0.1499", False),
    ],
)
def test_what_is_done_after_training_is_the_same_for_all_seeds(tmp_path, line, other, named):
    folder = PublicFolder()
    for run in folder.seeds:
        run.extra = [other if run.seed == 3 else line]
    assert bool(grave(tmp_path, folder, "A8-SAME-CONFIG")) is named


@pytest.mark.parametrize(("words", "named"), [("SWA over the last 40 %", True), ("remove `EMA / SWA`", False)])
def test_an_average_that_the_log_did_not_take(tmp_path, words, named):
    folder = PublicFolder(files={"README.md": f"{readme()}\n- {words}\n"})
    folder.seeds[0].early = ["ema:reverting to raw final weights"]
    assert bool(grave(tmp_path, folder, "A9-README-MATCH")) is named


AS_LOGGED = ("11L + QK-Gain 5", "PR #1493 has QK-Gain 5.25", "QK gain 5.25: -0.0003 in a trial", "11L + XSA11")


@pytest.mark.parametrize("words", ["11L + QK-Gain 5.25", "11L, XSA on last 4 layers", *AS_LOGGED])
def test_a_setting_in_words_is_the_logs(tmp_path, words):
    folder = metadata(blurb=words)
    for run in folder.seeds:
        run.settings = {"qk_gain_init": 5.0, "xsa_last_n": 11}
    assert bool(grave(tmp_path, folder, "A9-README-MATCH")) is (words not in AS_LOGGED)


@pytest.mark.parametrize("size", [15_880_000, None])
def test_the_size_at_a_step_of_training_is_not_the_artifact_s(tmp_path, size):
    folder = metadata(seed_results={"1": {"val_bpb": 1.0801, "artifact_bytes": size or 15_900_000 + len(SCRIPT)}})
    folder.seeds[0].early = [f"5000/20000 val_loss:2.8 val_bpb:1.0841 artifact_bytes:{size} train_time:588010ms"]
    assert bool(grave(tmp_path, folder, "A3-CLAIMED-BYTES")) is (size is not None)


@pytest.mark.parametrize(("total", "named"), [(15_952_001, False), (15_951_001, True), (15_950_001, True)])
def test_without_logs_the_size_is_the_largest_of_the_json_s_own(tmp_path, total, named):
    sizes = {"1": {"bytes_total": 15_950_001}, "2": {"bytes_total": 15_951_001}, "3": {"bytes_total": 15_952_001}}
    folder = metadata(seed_results=sizes, bytes_total=total)
    folder.files = {f"train_seed{seed}.log": None for seed in sizes}
    assert bool(grave(tmp_path, folder, "A3-CLAIMED-BYTES")) is named


def test_a_claimed_pass_of_n_grams_is_a_mixture(tmp_path):
    folder = PublicFolder()
    logs = {f"train_seed{run.seed}.log": run.log("modern") for run in folder.seeds}
    folder.files = {name: text.replace("quantized_sliding_window", "final_ngram") for name, text in logs.items()}
    assert [i.found for i in grave(tmp_path, folder, "C2-NORMALISED")] == ["final_ngram"]


@pytest.mark.parametrize(("name", "named"), [("Made_Up_1.0805", False), ("Made_Up_1.0843", True)])
def test_the_folder_s_name_has_the_claimed_score(tmp_path, name, named):
    folder = PublicFolder(name=f"2026-04-05_{name}", metadata={"model_params": 35_943_512})
    assert bool(grave(tmp_path, folder, "A9-JSON-MATCH")) is named


@pytest.mark.parametrize(("line", "named"), [("", True), ("train_loader:dataset:fineweb10B_sp1024 shards:80", False)])
def test_a_log_tells_the_text_of_its_score(tmp_path, line, named):
    log = f"{line}\nstep 00466 (100.0%) | loss: 3.323692 | dt: 659ms\n---\nval_bpb:          1.080500\n"
    folder = metadata(seeds=None, seed_results=None)
    folder.files = {f"train_seed{run.seed}.log": log if run.seed == 1 else None for run in folder.seeds}
    assert any("what text" in i.message for i in grave(tmp_path, folder, "A7-BYTES")) is named


@pytest.mark.parametrize(("size", "named"), [(50_919, True), (None, False)])
def test_logs_that_tell_no_seed_are_of_one_script(tmp_path, size, named):
    folder = metadata(seeds=None, seed_results=None)
    folder.seeds[0].code_bytes = size
    for i, run in enumerate(folder.seeds):
        run.code_bytes = run.code_bytes or len(SCRIPT)
        folder.files |= {f"train_seed{run.seed}.log": None, f"log{i}.txt": run.log("modern").replace("seed:", "at:")}
    assert bool(grave(tmp_path, folder, "A8-SAME-CODE")) is named


@pytest.mark.parametrize(
    ("said", "printed", "named"),
    [
        ("- **Layers:** 9", "XSA:last_4 active_layers:[7, 8, 9, 10]", "num_layers: 11"),
        ("- **Layers:** 11", "XSA:last_4 active_layers:[7, 8, 9, 10]", ""),
        ("| Layers | 11 (512d) |", "model_params:17059912", "num_layers: 9"),
        ("- **MLP:** 3x expansion", "model_params:17059912", "mlp_mult: 2"),
        ("- **Layers:** 9\n- **MLP:** 2x", "model_params:17059912", ""),
        ("- **Layers:** 11 in PR #7", "model_params:17059912", ""),
    ],
)
def test_the_model_of_the_readme_is_that_of_logs_without_its_settings(tmp_path, said, printed, named):
    folder = PublicFolder(family="classic")
    for run in folder.seeds:
        run.parameters, run.extra = 17_059_912 if "params" in printed else 26_993_756, [printed]
    folder.files["README.md"] = f"# X\n\nval_bpb: 1.0805\n\n{said}\n"
    found = grave(tmp_path, folder, "A9-README-MATCH")
    assert [named in i.computed for i in found] == [True] * bool(named)


@pytest.mark.parametrize(("sliding", "track", "named"), [(93, "10min_16mb", 1), (40, "10min_16mb", 0), (93, "x", 0)])
def test_a_total_of_evaluations_leaves_no_row_out(tmp_path, sliding, track, named):
    rows = f"| Training | 600s |\n| Sliding window | ~{sliding}s |\n| Score-first TTT | ~302s |\n| SLOT | ~255s |\n"
    folder = PublicFolder(track=f"track_{track}".replace("_x", "_non_record_16mb"), metadata={"track": None})
    folder.files["README.md"] = f"{readme()}\n| Stage | Time |\n|---|---|\n{rows}| **Total eval** | **~557s** |\n"
    assert [i.computed for i in grave(tmp_path, folder, "A2-EVAL-CLOCK")] == ["93 + 302 + 255 = 650 s"] * named


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("This is a **pure reproduction study** of PR #1.", True),
        ("No new techniques are introduced.", True),
        ("A reproduction of PR #1 came first; SmearGate is new.", False),
    ],
)
def test_a_reproduction_is_no_record(tmp_path, words, named):
    folder = PublicFolder(files={"README.md": f"{readme()}\n{words}\n"})
    found = grave(tmp_path, folder, "A8-MARGIN")
    assert any("reproduction" in text for i in found for text in (i.message, *i.more)) is named


def test_a_pass_shows_the_largest_size_and_clock(tmp_path):
    folder = PublicFolder()
    folder.seeds[1].model_bytes, folder.seeds[2].train_ms, folder.seeds[1].eval_ms = 15_990_000, 588_090, 400_000
    found = {i.rule: i.found for i in check_folder(folder.write(tmp_path)).findings}
    assert found["A3-ARTIFACT-BYTES"] == f"{15_990_000 + len(SCRIPT):,} bytes"
    assert found["A1-TRAIN-CLOCK"] == "588.090 s"
    assert found["A2-EVAL-CLOCK"].startswith("scorer 400.0 s")


@pytest.mark.parametrize(("size", "verdict"), [(144_569, Verdict.UNKNOWN), (145, Verdict.WARN)])
def test_what_an_excerpt_cut_off_a_log_is_unknown(tmp_path, size, verdict):
    listing = {f"train_seed{n}.log": {"bytes": size, "sha256": "0" * 64} for n in (1, 2, 3)}
    folder = PublicFolder(files=dict.fromkeys(listing, "exitcode: 1\n") | {"FILES.json": json.dumps(listing)})
    assert [i.verdict for i in check_folder(folder.write(tmp_path)).findings if i.rule == "A9-FILES"] == [verdict]


@pytest.mark.parametrize(
    ("key", "own", "named"),
    [("artifact_bytes_mean", True, ""), ("artifact_bytes_mean", False, "mean"), ("bytes_total", True, "mean")],
)
def test_a_mean_size_may_be_called_one(tmp_path, key, own, named):
    folder = PublicFolder()
    folder.seeds[1].model_bytes += 300
    sizes = {run.seed: run.model_bytes + len(SCRIPT) for run in folder.seeds}
    results = {seed: {"artifact_bytes": size} if own else {"steps": 5000} for seed, size in sizes.items()}
    folder.metadata = {"bytes_total": None, "seed_results": results} | {key: sizes[1] + 100}
    found = grave(tmp_path, folder, "A3-CLAIMED-BYTES")
    assert [named in i.message for i in found] == [True] * bool(named)


def test_one_seed_has_no_mean_size(tmp_path):
    claim = {"val_bpb": 1.0801, "bytes_total": 15_800_000, "val_bpb_std": None, "val_loss": None}
    folder = metadata(**claim, seeds=[1], seed_results={"1": {"artifact_bytes": 15_800_000}})
    folder.files = {"README.md": "# X\n\nval_bpb: 1.0801\n", "train_seed2.log": None, "train_seed3.log": None}
    (found,) = grave(tmp_path, folder, "A3-CLAIMED-BYTES")
    assert "the claimed size is in no log" in found.more[0]


@pytest.mark.parametrize(("code", "named"), [(0, ""), (431, "A3-CODE-BYTES")])
def test_sizes_tokens_and_two_scores_in_lines_of_other_words(tmp_path, code, named):
    folder = PublicFolder(family="classic", metadata={"val_bpb": 1.0805, "val_loss": None})
    for run in folder.seeds:
        run.code_bytes = len(SCRIPT) + code
        lines = run.log("classic").replace("val_loader:shards pattern=", "val:").split("\n")
        kept = [line for line in lines if not line.startswith(("Code size", "Total submission size:"))]
        text = "\n".join(kept).replace("submission size int8+zlib:", "submission size:")
        text = text.replace("roundtrip_exact val_loss", "roundtrip_exact model_val_loss")
        folder.files[f"train_seed{run.seed}.log"] = text.replace(" val_bpb:1.080", " model_val_bpb:1.080")
    report = check_folder(folder.write(tmp_path))
    verdicts = {i.rule: i.verdict for i in report.findings}
    assert verdicts["C4-COVERAGE"] is verdicts["A3-ARTIFACT-BYTES"] is verdicts["A7-BYTES"] is Verdict.PASS
    assert [i.rule for i in report.findings if i.verdict is Verdict.WARN and i.rule == "A3-CODE-BYTES"] == [
        named
    ] * bool(named)


@pytest.mark.parametrize(
    ("date", "named"), [("2026-04-06", False), ("2026-02-30", True), ("2026-04-07T01:00:00Z", True)]
)
def test_the_date_is_that_of_the_folder_s_name(tmp_path, date, named):
    assert bool(grave(tmp_path, metadata(date=date), "A9-METADATA")) is named


@pytest.mark.parametrize(("seconds", "packed", "named"), [(186.2, False, 1), (9.5, False, 0), (186.2, True, 0)])
def test_the_model_is_made_when_it_is_adapted(tmp_path, seconds, packed, named):
    folder, lines = PublicFolder(), ["dttt_adamw:start epochs=9", f"dttt_adamw:done void=0.5 total_time={seconds}s"]
    folder.seeds[0].early, folder.seeds[0].extra = ([], lines) if packed else (lines, [])
    assert [i.found for i in grave(tmp_path, folder, "A1-TRAIN-CLOCK")] == ["588.010 s + 186.2 s = 774.2 s"] * named


@pytest.mark.parametrize(("size", "named"), [(499_999, True), (151_078_222, False)])
def test_a_score_of_a_part_by_its_bytes(tmp_path, size, named):
    text = f"seed: 1\n  val_bpb: 2.1728\n  bytes evaluated: {size:,}\n"
    claim = {"val_bpb": 2.1728, "seeds": [1], "seed_results": None, "val_loss": None, "val_bpb_std": None}
    logs = {"train_seed1.log": text, "train_seed2.log": None, "train_seed3.log": None}
    report = check_folder(PublicFolder(metadata=claim, files=logs).write(tmp_path))
    verdicts = {i.rule: i.verdict for i in report.findings}
    assert verdicts["C4-COVERAGE"] is (Verdict.WARN if named else Verdict.UNKNOWN)
    assert verdicts["A9-SCORE-MATCH"] is Verdict.PASS
    assert bool(grave(tmp_path / "json", metadata(scoring={"of": {"slice_bytes": size}}), "C4-COVERAGE")) is named


@pytest.mark.parametrize(
    ("key", "more", "rules"),
    [
        *(("artifact_bytes", 0, []), ("artifact_bytes", 9, ["A3-CLAIMED-BYTES"])),
        *(("bytes_total", 0, ["A9-METADATA"]), ("model_size_bytes", 0, ["A9-METADATA"])),
    ],
)
def test_sizes_by_seed_are_their_largest(tmp_path, key, more, rules):
    sizes = {str(seed): 15_900_000 + len(SCRIPT) + more for seed in (1, 2, 3)}
    report = check_folder(metadata(**({"bytes_total": None} | {key: sizes})).write(tmp_path))
    assert [i.rule for i in report.findings if i.verdict is Verdict.WARN] == rules


def test_facts_stand_where_they_are_said_to(tmp_path):
    folder = PublicFolder(name="2026-04-05_Made_Up_1.0555", metadata={"blurb": "Causal SLOT; a SLOT optimizer"})
    for run in folder.seeds:
        text = run.log("modern").replace("  seed:", "  x:")
        text = text.replace("Total submission size quantized+brotli: 15900000", "  ARTIFACT TOTAL: 15,900,000 / 16")
        folder.files[f"train_seed{run.seed}.log"] = text.replace(f"bpb:{run.bpb:.8f}", f"bpb:1.08 exact:{run.bpb:.8f}")
    folder.files["logs/again_seed1.txt"] = PublicFolder().seeds[0].log("classic").replace("seed:", "x:")
    folder.files["README.md"] = readme().replace("1.0801", "1.0666")
    found = {i.rule: i for i in check_folder(folder.write(tmp_path)).findings}
    assert (found["A9-JSON-MATCH"].message[:17], found["A9-JSON-MATCH"].line) == ("the folder's name", 7)
    assert "which optimises" not in str(found["C3-SCORE-BEFORE-UPDATE"])
    assert found["A9-README-MATCH"].computed == "nearest 1.0801"
    assert found["A9-SCORE-MATCH"].verdict is Verdict.PASS
    assert found["A3-ARTIFACT-BYTES"].found == "15,900,000 bytes"
    assert "by the names of the files" in found["A8-SEEDS"].message
