"""Each rule with a made-up folder that breaks it, and clean folders that break none."""

import hashlib
import json

import pytest
from public_folders import SCRIPT, PublicFolder, loss_of

from harness.review.findings import Readings, with_settings
from harness.review.folder import check_folder
from harness.rules import Verdict


def findings(tmp_path, folder, rule, readings=None, **options):
    report = check_folder(folder.write(tmp_path), readings, **options)
    return [item for item in report.findings if item.rule == rule]


def verdicts(tmp_path, folder, rule, readings=None):
    return {item.verdict for item in findings(tmp_path, folder, rule, readings)}


@pytest.mark.parametrize("family", ["modern", "classic", "ternary"])
def test_a_clean_folder_of_each_log_family_has_neither_fail_nor_warn(tmp_path, family):
    report = check_folder(PublicFolder(family).write(tmp_path))
    grave = [item for item in report.findings if item.verdict in (Verdict.FAIL, Verdict.WARN, Verdict.ERROR)]
    assert grave == []
    assert report.facts["claimed_bpb"] == pytest.approx(1.0805)
    assert report.facts["largest_bytes"] == 15_900_000 + len(SCRIPT)


def broken_seed(family="modern", **changes):
    folder = PublicFolder(family)
    for name, value in changes.items():
        setattr(folder.seeds[1], name, value)
    return folder


def with_script(text):
    return PublicFolder(script=SCRIPT + text)


CASES = [
    ("A1-TRAIN-CLOCK", Verdict.WARN, broken_seed(train_ms=600_137, reserve_s=0, hessian_s=0)),
    ("A1-TRAIN-CLOCK", Verdict.FAIL, broken_seed(train_ms=601_153)),
    ("A1-CALIBRATION", Verdict.WARN, broken_seed(train_ms=599_800, reserve_s=0.5)),
    (
        "A1-CALIBRATION",
        Verdict.FAIL,
        broken_seed(train_ms=599_990, reserve_s=0, extra=["gptq:calibrating (training data)"]),
    ),
    ("A1-CALIBRATION", Verdict.WARN, broken_seed("classic", train_ms=599_990, extra=["gptq:calibrating 9 batches"])),
    ("A1-HARDWARE", Verdict.WARN, broken_seed(gpu="NVIDIA H200")),
    ("A1-CLOCK-PATCHED", Verdict.WARN, with_script("\ntime.perf_counter = lambda: 0.0\n")),
    ("A1-CLOCK-PATCHED", Verdict.WARN, with_script("\nsetattr(torch.cuda, 'synchronize', lambda: None)\n")),
    ("A6-PREQUANT-TTT", Verdict.WARN, broken_seed(early=["sdttt:starting self-distillation TTT"])),
    ("A6-PREQUANT-TTT", Verdict.FAIL, broken_seed(early=["prequant_ttt:start epochs=21 lr=0.0005"])),
    ("A4-PAID-PREFIX", Verdict.FAIL, broken_seed(extra=["Paid prefix blob: 4240472 bytes"])),
    ("C4-SINGLE-PASS", Verdict.WARN, broken_seed(extra=["temp_search: best_temp=0.97"])),
    ("S6-PLAUSIBLE", Verdict.WARN, broken_seed(curve_bpb=1.1600)),
    ("A2-EVAL-CLOCK", Verdict.FAIL, broken_seed(eval_ms=610_000)),
    ("A2-EVAL-CLOCK", Verdict.WARN, broken_seed(extra=["diagnostic val_loss:2.8 val_bpb:1.1 eval_time:350500ms"])),
    ("A2-EVAL-CLOCK", Verdict.WARN, broken_seed(extra=["ttt_lora:compile warmup done (301.5s)"])),
    ("A3-ARTIFACT-BYTES", Verdict.FAIL, broken_seed(model_bytes=16_024_000)),
    ("A3-CODE-BYTES", Verdict.WARN, PublicFolder(metadata={"bytes_code": 50_919})),
    ("A3-CLAIMED-BYTES", Verdict.WARN, PublicFolder(metadata={"bytes_total": 15_800_000})),
    (
        "A3-NO-UNCOUNTED-CODE",
        Verdict.WARN,
        PublicFolder(script="import helper\n" + SCRIPT, files={"helper.py": "x = 1\n"}),
    ),
    ("A4-NO-NETWORK", Verdict.WARN, with_script("\nimport requests\n")),
    ("A4-TRAIN-NO-VAL", Verdict.FAIL, with_script("\ntrain_files = 'data/fineweb_val_*.bin'\n")),
    ("A4-TRAIN-NO-VAL", Verdict.WARN, with_script("\ntrain_files = 'data/fineweb_*.bin'\n")),
    ("A4-TRAIN-NO-VAL", Verdict.FAIL, broken_seed(settings={"train_files": "d/fineweb_val_*.bin"})),
    (
        "A4-DISJOINT",
        Verdict.WARN,
        PublicFolder(files={"prepare.py": "p.add_argument('--val-docs', type=int, default=10_000)\n"}),
    ),
    ("A6-PREQUANT-TTT", Verdict.FAIL, broken_seed(settings={"prequant_ttt_enabled": True})),
    ("A7-BYTES", Verdict.FAIL, broken_seed(n_bytes=157_319_833)),
    ("A7-BYTES", Verdict.WARN, broken_seed(n_bytes=155_769_746, tokens=63_779_840)),
    ("A7-TOKENIZER", Verdict.WARN, broken_seed(tokens=43_767_808)),
    (
        "A8-MEAN",
        Verdict.WARN,
        PublicFolder(
            files={"README.md": "| Seed | BPB |\n|---|---|\n| 1 | 1.0801 |\n| 2 | 1.0809 |\n| Mean | 1.0795 |\n"}
        ),
    ),
    ("A8-STD", Verdict.WARN, PublicFolder(metadata={"val_bpb_std": 0.00032660})),
    ("A8-SEEDS", Verdict.WARN, PublicFolder(files={"train_seed2.log": None})),
    ("A8-SAME-CONFIG", Verdict.FAIL, broken_seed(settings={"matrix_lr": 0.026})),
    ("A8-SAME-CODE", Verdict.WARN, broken_seed(code_bytes=50_919)),
    ("A9-FILES", Verdict.FAIL, PublicFolder(files={"README.md": None})),
    ("A9-FILES", Verdict.FAIL, PublicFolder(files={"train_gpt.py": ""})),
    ("A9-JSON", Verdict.FAIL, PublicFolder(files={"submission.json": '{"val_bpb": 1, "val_bpb": 2}'})),
    ("A9-METADATA", Verdict.WARN, PublicFolder(metadata={"val_bpb": None})),
    ("A9-METADATA", Verdict.WARN, PublicFolder(metadata={"val_loss": 1.0805})),
    ("A9-METADATA", Verdict.FAIL, PublicFolder(files={"submission.json": '{"name": "x", "github_id": "y"}'})),
    ("A9-METADATA", Verdict.WARN, PublicFolder(metadata={"val_bpb": None, "val_bpb_retracted": 1.07})),
    ("A9-TRACK", Verdict.FAIL, PublicFolder(metadata={"track": "non_record_16mb"})),
    ("A9-TRACK", Verdict.WARN, PublicFolder(track="track_non_record_16mb")),
    (
        "A9-LOG",
        Verdict.WARN,
        PublicFolder(files={"train_seed2.log": "step:5/10 val_loss:3.0 val_bpb:1.2 train_time:5ms\n"}),
    ),
    ("A9-SCORE-MATCH", Verdict.FAIL, PublicFolder(metadata={"val_bpb": 1.0430})),
    ("A9-SCORE-MATCH", Verdict.WARN, PublicFolder(metadata={"val_bpb": 1.0801})),
    ("A9-SCORE-MATCH", Verdict.FAIL, PublicFolder(metadata={"seed_results": {"1": {"val_bpb": 1.0777}}})),
    ("A9-JSON-MATCH", Verdict.WARN, PublicFolder(metadata={"seed_results": {"1": {"steps": 5088}}})),
    (
        "A9-README-MATCH",
        Verdict.WARN,
        PublicFolder(files={"README.md": "val_bpb: 1.0805\n\n| Seed | BPB |\n|---|---|\n| 1 | 1.0831 |\n"}),
    ),
    ("A9-README-MATCH", Verdict.WARN, PublicFolder(files={"README.md": "# val_bpb 1.0777\n"})),
    ("A8-SAME-CONFIG", Verdict.FAIL, broken_seed(parameters=21_800_000)),
    (
        "A9-SCORER",
        Verdict.WARN,
        broken_seed(after=["final_int6_ttt val_loss:3.07421378 val_bpb:1.33603200 eval_time:5ms"]),
    ),
    ("C2-TARGET-GATE", Verdict.WARN, with_script("\nalpha = torch.where(cache_p[target] > p, 1.0, 0.0)\n")),
    ("C2-NORMALISED", Verdict.WARN, with_script("\np = (1 - a) * probs[target] + a * ngram_p[target]\n")),
    ("C4-SINGLE-PASS", Verdict.WARN, with_script("\nbest = min(first_bpb, second_bpb)\n")),
    ("C4-SINGLE-PASS", Verdict.WARN, with_script("\nfor temp in [0.9, 0.98, 1.0]:\n    eval_val(model, temp)\n")),
    ("C4-COVERAGE", Verdict.FAIL, broken_seed(tokens=9_662_464, n_bytes=36_000_000)),
    ("S6-PLAUSIBLE", Verdict.FAIL, broken_seed(bpb=0.3922)),
]


@pytest.mark.parametrize(
    ("rule", "verdict", "folder"),
    [
        pytest.param(*case, id=f"{case[0]}-{case[1].value}-{i}", marks=pytest.mark.rule(case[0]))
        for i, case in enumerate(CASES)
    ],
)
def test_a_broken_folder_is_named_by_its_rule(tmp_path, rule, verdict, folder):
    found = findings(tmp_path, folder, rule)
    assert verdict in {item.verdict for item in found}
    grave = next(item for item in found if item.verdict is verdict)
    assert grave.message.endswith(".")


def test_what_follows_from_the_seed_or_names_the_run_may_differ(tmp_path):
    folder = PublicFolder()
    for run, stride in zip(folder.seeds, (47, 63, 51), strict=True):
        run.settings = {
            "batch_stride": stride,
            "experiment_name": f"x{run.seed}",
            "wandb_group": run.seed,
            "tag": stride,
        }
    assert verdicts(tmp_path, folder, "A8-SAME-CONFIG") == {Verdict.PASS}


@pytest.mark.parametrize(
    "line",
    [
        "gptq:using post-training int6 quantization without train-data calibration",
        "gptq:SKIPPED (SKIP_GPTQ=1), no Hessians",
        "gptq:calibrated 0 layers in 0.0s",
    ],
)
def test_a_log_that_says_there_was_no_calibration_is_believed(tmp_path, line):
    folder = PublicFolder("classic")
    folder.seeds[0].train_ms, folder.seeds[0].extra = 599_990, [line]
    assert verdicts(tmp_path, folder, "A1-CALIBRATION") <= {Verdict.PASS}


def test_evidence_has_file_line_value_and_computed_value(tmp_path):
    found = findings(tmp_path, broken_seed(train_ms=601_153), "A1-TRAIN-CLOCK")[0]
    text = (tmp_path / "track_10min_16mb/2026-04-05_Made_Up/train_seed2.log").read_text().splitlines()
    assert (found.file, found.found, found.computed) == ("train_seed2.log", "601.153 s", "cap 600.000 s")
    assert "601153ms" in text[found.line - 1]


def test_a_seed_in_the_name_that_is_not_the_runs_is_caught(tmp_path):
    folder = PublicFolder(metadata={"seeds": [1, 3, 7]})
    folder.files["train_seed2.log"] = None
    other = PublicFolder().seeds[1]
    other.code_bytes = len(SCRIPT)
    folder.files["train_seed7.log"] = other.log("modern")
    assert Verdict.WARN in verdicts(tmp_path, folder, "A8-SEEDS")


def test_a_reading_turns_a_warning_into_a_fail(tmp_path):
    folder = broken_seed(extra=["diagnostic val_loss:2.8 val_bpb:1.1 eval_time:350500ms"])
    assert Verdict.FAIL in verdicts(tmp_path, folder, "A2-EVAL-CLOCK", with_settings(("eval_clock=sum",)))


def test_against_tests_with_and_without_the_margin(tmp_path):
    old = PublicFolder(name="2026-04-01_Old")
    for run, bpb in zip(old.seeds, (1.0815, 1.0818, 1.0812), strict=True):
        run.bpb = bpb
    before = old.write(tmp_path / "old")
    found = findings(tmp_path / "new", PublicFolder(), "A8-TEST", against=before)
    assert [item.verdict for item in found] == [Verdict.WARN]
    assert "t = -" in found[0].found
    assert "with the margin of 0.005 nats/token = 0.00194 bpb" in found[0].found
    for run, bpb in zip(old.seeds, (1.0820, 1.0821, 1.0822), strict=True):
        run.bpb = bpb
    options = {"readings": Readings(alpha=0.05), "against": old.write(tmp_path / "near")}
    found = findings(tmp_path / "margin", PublicFolder(), "A8-MARGIN", **options)
    assert [(item.verdict, item.message[-22:]) for item in found] == [(Verdict.WARN, "but not by the margin.")]


def test_the_non_record_track_has_no_clocks(tmp_path):
    folder = broken_seed(train_ms=14_400_039)
    folder.track = "track_non_record_16mb"
    folder.metadata["track"] = "non-record-unlimited-compute-16mb"
    assert verdicts(tmp_path, folder, "A1-TRAIN-CLOCK") == {Verdict.PASS}


def scored_again(bpb, label="quantized_sliding_window", seconds=300_000):
    """Every seed's pass once more, under the same name or another, as much better or worse as ``bpb`` says."""
    folder = PublicFolder(metadata={"seed_results": {}})
    for run in folder.seeds:
        score, tokens = run.bpb + bpb, run.tokens
        run.after = [f"{label} val_loss:{loss_of(score, tokens):.8f} val_bpb:{score:.8f} eval_time:{seconds}ms"]
    return folder


@pytest.mark.rule("A2-EVAL-CLOCK")
def test_the_clock_is_that_of_the_claimed_pass_and_not_of_the_last(tmp_path):
    folder = scored_again(0.02, "quantized", seconds=5_000)
    for run in folder.seeds:
        run.eval_ms = 650_000
    assert verdicts(tmp_path, folder, "A2-EVAL-CLOCK") == {Verdict.FAIL}


def test_the_summary_compares_the_claim_with_the_claimed_pass(tmp_path):
    report = check_folder(scored_again(0.09, "quantized").write(tmp_path))
    assert report.facts["logged_mean_bpb"] == report.facts["claimed_bpb"] == pytest.approx(1.0805)


CALIBRATIONS = {
    "gptq:calibrating with 64 random batches (training data)": Verdict.FAIL,
    "gptq:calibrating with 64 synthetic splits of the train shards": Verdict.FAIL,
    "gptq:calibrating on train text, no reserve": Verdict.FAIL,
    "gptq:calibrating with 64 random tokens": Verdict.PASS,
    "gptq:collected hessians for 68 layers (AR self-gen)": Verdict.PASS,
    "gptq:calibrating on self-generated text, no training data": Verdict.PASS,
    "gptq:calibrating after a bar of random noise": Verdict.WARN,
}


@pytest.mark.rule("A1-CALIBRATION")
@pytest.mark.parametrize(("line", "verdict"), CALIBRATIONS.items(), ids=list(CALIBRATIONS))
def test_only_text_of_the_model_itself_is_free_to_calibrate_on(tmp_path, line, verdict):
    folder = PublicFolder("classic")
    folder.seeds[0].train_ms, folder.seeds[0].extra = 599_990, [line]
    assert verdicts(tmp_path, folder, "A1-CALIBRATION") == {verdict}


PREQUANT = {
    "prequant_ttt:start epochs=21 wd:0": Verdict.FAIL,
    "prequant_ttt:start without weight decay": Verdict.FAIL,
    "pre-quant TTT enabled:1 skip_first:0": Verdict.FAIL,
    "prequant_ttt_lr:0 prequant_ttt_epochs:21": Verdict.FAIL,
    "prequant_ttt: 0": None,
    "prequant_ttt_enabled: False": None,
    "prequant_ttt: epochs=0": None,
    "eval: no pre-quant TTT": None,
    "eval: pre-quant TTT skipped": None,
    "prequant_ttt:": None,
}


@pytest.mark.rule("A6-PREQUANT-TTT")
@pytest.mark.parametrize(("line", "verdict"), PREQUANT.items(), ids=list(PREQUANT))
def test_a_mark_is_off_by_its_own_value_alone(tmp_path, line, verdict):
    found = verdicts(tmp_path, broken_seed(extra=[line]), "A6-PREQUANT-TTT")
    assert found == ({verdict} if verdict else set())


def listed(folder, **changes):
    """A listing of the folder as it is, some of its entries changed."""
    entries = {}
    for path in folder.iterdir():
        data = path.read_bytes()
        entries[path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} | changes.get(
            path.stem, {}
        )
    (folder / "FILES.json").write_text(json.dumps(entries))
    return [
        item for item in check_folder(folder).findings if item.rule == "A9-FILES" and item.verdict is not Verdict.PASS
    ]


@pytest.mark.rule("A9-FILES")
def test_a_listing_that_tells_the_truth_changes_nothing(tmp_path):
    assert listed(PublicFolder().write(tmp_path)) == []


def test_an_excerpt_may_cut_texts_and_says_so(tmp_path):
    found = listed(PublicFolder().write(tmp_path), README={"bytes": 90_000}, train_seed1={"bytes": 90_000})
    assert [item.verdict for item in found] == [Verdict.UNKNOWN]
    assert "README.md, train_seed1.log" in found[0].message


@pytest.mark.parametrize("name", ["\ud800.py", ""])
def test_a_listing_of_names_that_no_file_can_have_is_none(tmp_path, name):
    folder = PublicFolder().write(tmp_path)
    entry = {"bytes": 1, "sha256": "0" * 64}
    (folder / "FILES.json").write_text(json.dumps({"train_gpt.py": entry, name: entry}))
    assert check_folder(folder).count(Verdict.FAIL) == 0


TABLE = "val_bpb: 1.0805\n\n| Seed | Pre | BPB |\n|---|---|---|\n{}| **Std** | | {} |\n"
ROWS = "| 1 | x | 1.0801 |\n| 2 | x | 1.0809 |\n| 3 | x | 1.0805 |\n"
OTHERS = "| 7 | x | 1.0711 |\n| 8 | x | 1.0721 |\n| 9 | x | 1.0701 |\n"


@pytest.mark.rule("A8-STD")
@pytest.mark.parametrize(
    ("rows", "std", "verdict"),
    [
        (ROWS, "0.00040", None),
        (ROWS, "**0.00033**", Verdict.WARN),
        (ROWS, "0.00021", Verdict.WARN),
        (OTHERS, "0.00100", None),
        (OTHERS, "0.00050", Verdict.WARN),
        (ROWS, "~0.0003", None),
    ],
)
def test_a_deviation_in_a_row_of_a_table_is_judged(tmp_path, rows, std, verdict):
    """Sample deviation of the seeds 0.0004, population 0.000327."""
    folder = PublicFolder(metadata={"val_bpb_std": None}, files={"README.md": TABLE.format(rows, std)})
    assert verdicts(tmp_path, folder, "A8-STD") == ({verdict} if verdict else set())


@pytest.mark.rule("A9-TRACK")
@pytest.mark.parametrize("word", ["non_record_16mb", "unlimited", "NON-RECORD"])
def test_the_authors_word_does_not_switch_off_the_caps_of_the_folder(tmp_path, word):
    folder = broken_seed(train_ms=986_000, eval_ms=900_000)
    folder.metadata["track"] = word
    report = check_folder(folder.write(tmp_path))
    failed = {item.rule for item in report.findings if item.verdict is Verdict.FAIL}
    assert {"A1-TRAIN-CLOCK", "A2-EVAL-CLOCK", "A9-TRACK"} <= failed
    assert report.track == "10min_16mb"


def test_outside_of_any_track_the_authors_word_counts_and_is_named(tmp_path):
    folder = broken_seed(train_ms=986_000)
    folder.track, folder.metadata["track"] = "somewhere", "non_record_16mb"
    report = check_folder(folder.write(tmp_path))
    assert report.track == "non_record_16mb"
    assert any("its own word" in item.message for item in report.findings if item.rule == "A9-TRACK")


def test_an_excerpt_leaves_unknown_what_its_listing_only_names(tmp_path):
    folder = PublicFolder().write(tmp_path)
    digest = "0" * 64
    listing = {"train_gpt.py": {"bytes": len(SCRIPT), "sha256": digest}}
    (folder / "train_gpt.py").unlink()
    (folder / "FILES.json").write_text(json.dumps(listing))
    accepted = check_folder(folder)
    assert accepted.count(Verdict.FAIL) == 0
    assert any(item.rule == "A9-FILES" and item.verdict is Verdict.UNKNOWN for item in accepted.findings)
    refused = check_folder(folder, Readings(excerpt="refuse"))
    assert any(item.rule == "A9-FILES" and item.verdict is Verdict.FAIL for item in refused.findings)
