"""Figures, claims and words that are bound to a stage, a seed, a track or a text: each fault beside its honest twin."""

import json

import pytest
from public_folders import SCRIPT, TOKENS, PublicFolder, loss_of

from harness.review.folder import check_folder
from harness.review.number import student_tail
from harness.rules import Verdict

NO_LOGS = {f"train_seed{seed}.log": None for seed in (1, 2, 3)}
ALONE = {"seeds": [1], "seed_results": {}, "val_bpb_std": None, "val_loss": None}
ONE_GPU = "# X\n\nval_bpb: 1.0805\n\nTrained on 1xH100.\n"
EARLY = ["ttt:start epochs=10 lr=0.0005"]
TURNED = """# X
val_bpb: {}

| Metric | Seed 1 | Seed 2 | Seed 3 |
|---|---|---|---|
| BPB | 1.0801 | 1.0809 | 1.0805 |
"""


def made(readme="# X\n\nval_bpb: 1.0805\n", metadata=None, files=None, **first):
    """A folder with this README; further names are facts of its first run."""
    folder = PublicFolder(metadata=metadata or {}, files={"README.md": readme} | (files or {}))
    for name, value in first.items():
        setattr(folder.seeds[0], name, value)
    return folder


def alone(bpb, **more):
    return made(TURNED.format(bpb), {**ALONE, "val_bpb": bpb, **more}, NO_LOGS)


def scored_by(*strides):
    """Three seeds whose last pass names its stride in its own line."""
    folder = made()
    for run, stride in zip(folder.seeds, strides, strict=True):
        score = f"val_loss:{loss_of(run.bpb, run.tokens):.4f} val_bpb:{run.bpb:.4f} (stride={stride}, T=0.90)"
        run.after = [f"final_sliding {score} eval_time:300000ms"]
    return folder


def scored_apart(line):
    """A run whose score stands in a log of its own."""
    train = "model_params:35943512\nstep:9800/20000 train_loss:3.5012 train_time:587561ms step_avg:59.96ms\n"
    metadata = {**ALONE, "seeds": None, "val_bpb": 1.0805}
    return made(metadata=metadata, files={**NO_LOGS, "train.log": train, "train_score.txt": f"{line}\n"})


def packed(early, late):
    table = f"| Config | val_bpb (pre-quant) | val_bpb (int6 roundtrip) |\n|---|---|---|\n| big | {early} | {late} |\n"
    return made(f"# X\n\n{table}", {**ALONE, "val_bpb": 1.0805}, NO_LOGS)


def unseeded(words):
    """A score and nothing that tells of a run."""
    claim = json.dumps({"name": "Made up", "date": "2026-04-05", "val_bpb": 1.0805})
    return made(f"# X\n\nval_bpb: 1.0805{words}\n", files={**NO_LOGS, "submission.json": claim})


def checked(seconds):
    """A rerun beside the claimed runs, whose log names a limit of its own."""
    folder = made()
    line = f"artifact_production_wallclock: {seconds}s (must be < 600.0)\n"
    folder.files["rerun/train_seed1.log"] = folder.seeds[0].log("modern").replace("1.0801", "1.0899") + line
    return folder


def dated(day, readme="# X\n\nval_bpb: 1.0805\n"):
    """A folder of that day. Merged records: 1.0897 on 5, 1.0856 on 6, 1.0828 on 7 and 1.0734 on 12 April."""
    folder = made(readme, {"date": day})
    folder.name = f"{day}_Made_Up"
    return folder


def only_readme(*cells, title="val_bpb: 1.0805"):
    """A README alone, with a table of seeds."""
    rows = "".join(f"| {seed} | {cell} |\n" for seed, cell in enumerate(cells, 1))
    return made(f"# X\n\n{title}\n\n| Seed | BPB |\n|---|---|\n{rows}", files={"submission.json": None, **NO_LOGS})


def seeded(*cells):
    return made(only_readme(*cells).files["README.md"])


def sized(mean):
    return made(f"# X\n\n- Mean artifact size: {mean + len(SCRIPT):,} bytes\n", model_bytes=15_900_001)


def lost(bpb):
    return made(metadata={"val_loss": round(loss_of(bpb, TOKENS["modern"]), 6)})


def headed(bpb):
    return made(f"# X\n\n**val_bpb: {bpb}** (3-seed mean) | 15.9 MB | 8xH100\n")


WARNED = {
    "a score behind a merged record": ("A8-MARGIN", dated("2026-04-14"), dated("2026-04-05")),
    "the same without a claim": (
        "A8-MARGIN",
        dated("2026-04-14"),
        dated("2026-04-14", "# X\n\nDoes **not** set a record.\n"),
    ),
    "the same on the day after": ("A8-MARGIN", dated("2026-04-11"), dated("2026-04-05")),
    "the same beside what did not help": (
        "A8-MARGIN",
        dated("2026-04-14", "# X\n\nval_bpb: 1.0805\n\n## Negative Results\n"),
        dated("2026-04-14", "# Non-record: negative results\n"),
    ),
    "no seed under any name": ("A8-SEEDS", unseeded(""), unseeded(" (3-seed mean)")),
    "no loss under any name": (
        "A9-METADATA",
        made(metadata={"val_loss": None}),
        made(metadata={"val_loss": None, "mean_val_loss": 2.791}),
    ),
    "one GPU by a README, and no log that lists eight": ("A1-HARDWARE", made(ONE_GPU, files=NO_LOGS), made(ONE_GPU)),
    "a check that the run made itself": ("A1-TRAIN-CLOCK", checked(825.352), checked(525.352)),
    "the same after the challenge": ("A8-MARGIN", dated("2026-05-02"), dated("2026-11-24")),
    "a gain that the seeds do not show": ("A8-MARGIN", dated("2026-04-09"), dated("2026-04-06")),
    "a README's score": ("A8-MARGIN", only_readme(title="**val_bpb: 1.1005** | 15.9 MB"), only_readme()),
    "a loss of no run": ("A9-JSON-MATCH", lost(1.1105), lost(1.0805)),
    "one seed's loss beside a mean": ("A9-JSON-MATCH", lost(1.0801), lost(1.0805)),
    "a headline of several facts": ("A9-README-MATCH", headed(1.0705), headed(1.0805)),
    "a README's seed without a log": ("A8-SEEDS", seeded(1.08, 1.08, 1.08, 1.08), seeded(1.08, 1.08, 1.08, "pending")),
    "seeds that are announced": ("A8-SEEDS", only_readme(1.08, "pending", "pending"), only_readme(1.08, 1.08, 1.08)),
    "MiB that are called MB": (
        "A9-README-MATCH",
        made("# X\n\nIt has 15.16 MB.\n"),
        made("# X\n\nIt has 15.16 MiB.\n"),
    ),
    "a mean of sizes": ("A9-README-MATCH", sized(15_900_100), sized(15_900_000)),
}
PAIRS = {name: (rule, Verdict.WARN, *folders) for name, (rule, *folders) in WARNED.items()} | {
    "unlike strides in the seeds' last passes": (
        "A8-SAME-CONFIG",
        Verdict.WARN,
        scored_by(8, 8, 16),
        scored_by(16, 16, 16),
    ),
    "unlike counts of bytes in the seeds' last passes": (
        "A7-BYTES",
        Verdict.WARN,
        made(n_bytes=151_068_000),
        made(n_bytes=151_078_000),
    ),
    "no score of the packed model": (
        "A9-SCORER",
        Verdict.WARN,
        made(extra=["skipping_final_int8_zlib_roundtrip_eval:1"]),
        made(extra=["skipping_final_int8_zlib_roundtrip_eval:0"]),
    ),
    "a run that was never scored": (
        "A9-LOG",
        Verdict.WARN,
        scored_apart("nothing"),
        scored_apart("step:0/0 val_loss:2.7910 val_bpb:1.0805 train_time:0ms step_avg:0.20ms"),
    ),
    "the README's score before packing": (
        "A9-SCORE-MATCH",
        Verdict.WARN,
        packed("1.08", "1.42"),
        packed("1.06", "1.08"),
    ),
    "a score behind the record that the README names": (
        "A8-MARGIN",
        Verdict.WARN,
        made("# X\n\nCurrent SOTA (PR #1): **1.0601 BPB**.\n"),
        made("# X\n\nA non-record run. Current SOTA (PR #1): **1.0601 BPB**.\n"),
    ),
    "nats behind those of the record that the README names": (
        "A8-MARGIN",
        Verdict.WARN,
        made("# X\n\nMerged SOTA (PR #1): 1.8822 nats. Delta: -0.9140.\n"),
        made("# X\n\nMerged SOTA (PR #1): 2.9822 nats. Delta: -0.1832.\n"),
    ),
    "a score hardly ahead of it": (
        "A8-MARGIN",
        Verdict.WARN,
        made("# X\n\n| Run | val_bpb |\n|---|---|\n| PR #1 published | 1.08154321 |\n"),
        made("# X\n\n| Run | val_bpb |\n|---|---|\n| PR #1 published | 1.09154321 |\n"),
    ),
    "a seed in words that no log has": (
        "A8-SEEDS",
        Verdict.WARN,
        made(metadata={"seeds": None, "seed_results": {}, "blurb": "8xH100, seed 7, post-quant."}),
        made(
            metadata={"seeds": None, "seed_results": {}, "blurb": "8xH100, seed 2, post-quant; mean of seeds 1.0805."}
        ),
    ),
    "no size under any name": (
        "A9-METADATA",
        Verdict.WARN,
        made(metadata={"bytes_total": None, "vocab_size": 1024}),
        made(metadata={"bytes_total": None, "artifact_size": 15_900_000}),
    ),
    "the total in place of the model's size": (
        "A9-README-MATCH",
        Verdict.WARN,
        made(f"# X\n\n- Serialized model int8+zlib: `{15_900_000 + len(SCRIPT):,} bytes`\n"),
        made("# X\n\n- Serialized model int8+zlib: `15,900,000 bytes`\n"),
    ),
    "best of the README's own columns": ("A9-SCORE-MATCH", Verdict.WARN, alone(1.0801), alone(1.0805)),
    "best of two runs of one seed": (
        "A9-SCORE-MATCH",
        Verdict.WARN,
        made(
            metadata={**ALONE, "val_bpb": 1.0801, "runs": [{"seed": 1, "val_bpb": b} for b in (1.0801, 1.0809)]},
            files=NO_LOGS,
        ),
        made(
            metadata={**ALONE, "val_bpb": 1.0805, "runs": [{"seed": 1, "val_bpb": b} for b in (1.0801, 1.0809)]},
            files=NO_LOGS,
        ),
    ),
    "adaptation before packing, on validation text by the README": (
        "A6-PREQUANT-TTT",
        Verdict.FAIL,
        made("# X\n\nAfter training we fine-tune the model on validation data.\n", early=EARLY),
        made("# X\n\nAfter training we measure the model on validation data.\n"),
    ),
    "a size without the code": (
        "A3-CLAIMED-BYTES",
        Verdict.WARN,
        made(metadata={"bytes_total": 9_000_000, "bytes_model": 9_000_000}, files=NO_LOGS),
        made(metadata={"bytes_total": 9_050_123, "bytes_model": 9_000_000}, files=NO_LOGS),
    ),
    "another vocabulary than the name's": (
        "A9-README-MATCH",
        Verdict.WARN,
        made("# Combined SP4096 stack\n\nval_bpb: 1.0805\n", settings={"vocab_size": 1024}),
        made("# Combined SP1024 stack\n\nval_bpb: 1.0805\n", settings={"vocab_size": 1024}),
    ),
    "settings of another run": (
        "A9-README-MATCH",
        Verdict.WARN,
        made("# X\n\nDefaults: `NUM_LAYERS=7, MODEL_DIM=512`\n", settings={"num_layers": 6, "model_dim": 512}),
        made("# X\n\n`NUM_LAYERS=7` was worse, `MODEL_DIM=512 NUM_LAYERS=6` best\n", settings={"num_layers": 6}),
    ),
    "a time that no log has": (
        "A9-README-MATCH",
        Verdict.WARN,
        made("# X\n\n| Phase | Time |\n|---|---|\n| Sliding window eval (stride=64) | 270s |\n"),
        made("# X\n\n| Phase | Time |\n|---|---|\n| Sliding window eval (stride=64) | 300s |\n"),
    ),
    "an author left to fill in": (
        "A9-METADATA",
        Verdict.WARN,
        made("# X\n\n**Author:** [your name or handle]\n"),
        made("# X\n\n**Author:** [Jane Doe](https://example.org/jane)\n"),
    ),
    "an improvement that the title calls negative": (
        "A9-README-MATCH",
        Verdict.WARN,
        made("# X (negative result)\n", {"summary": "0.0285 BPB improvement over a static gate."}),
        made("# X\n\nOne negative result: y.\n", {"summary": "0.0285 BPB improvement over a static gate."}),
    ),
    "a log with a gap": (
        "A9-LOG",
        Verdict.WARN,
        made(after=["[... warmup steps 3-19 ...]"]),
        made(after=["warmup steps ... done"]),
    ),
    "a listed file that is not there": (
        "A9-FILES",
        Verdict.WARN,
        made("# X\n\nFiles:\n- `train_gpt.py`: the script\n- `eval.log`: the evaluation\n"),
        made("# X\n\nFiles:\n- `train_gpt.py`: the script\n\nThe data set has\n- `eval.log`: an example\n"),
    ),
    "own words over the cap": (
        "A3-ARTIFACT-BYTES",
        Verdict.WARN,
        made("# X\n\nThe compressed model is **16.1 MB** (limit: 16 MB).\n"),
        made("# X\n\nThe compressed model is **15.9 MB** (limit: 16 MB).\n"),
    ),
    "one seed by the README, and no log": (
        "A8-SEEDS",
        Verdict.WARN,
        made("# X\n\nval_bpb: 1.0805 (single seed)\n", {**ALONE, "seeds": None}, NO_LOGS),
        made("# X\n\nval_bpb: 1.0805 (three seeds)\n", {**ALONE, "seeds": None}, NO_LOGS),
    ),
    "one seed by the JSON's number, and no log": (
        "A8-SEEDS",
        Verdict.WARN,
        made("# X\n", {**ALONE, "seeds": None, "num_seeds": 1}, NO_LOGS),
        made("# X\n", {**ALONE, "seeds": None, "num_seeds": 3}, NO_LOGS),
    ),
    "a figure of a later pass under an early name": (
        "A9-JSON-MATCH",
        Verdict.WARN,
        made(
            "# X\n",
            {**ALONE, "val_bpb": 1.0801, "pre_quant_val_bpb": 1.0801234},
            dict.fromkeys(list(NO_LOGS)[1:]),
            bpb=1.0801234,
        ),
        made(
            "# X\n",
            {**ALONE, "val_bpb": 1.0801, "post_quant_val_bpb": 1.0801234},
            dict.fromkeys(list(NO_LOGS)[1:]),
            bpb=1.0801234,
        ),
    ),
}


def found(root, folder, rule):
    return [
        i.verdict for i in check_folder(folder.write(root)).findings if i.rule == rule and i.verdict in ("FAIL", "WARN")
    ]


@pytest.mark.parametrize("kind", list(PAIRS))
def test_the_fault_is_named_and_its_twin_is_not(tmp_path, kind):
    rule, verdict, broken, twin = PAIRS[kind]
    assert found(tmp_path / "broken", broken, rule) == [verdict]
    assert found(tmp_path / "twin", twin, rule) == []


@pytest.mark.parametrize(("words", "named"), [("", True), ("The artifact has 15.9 MB.", False)])
def test_a_size_that_nothing_tells_is_said_to_be_missing(tmp_path, words, named):
    folder = made(f"# X\n\nval_bpb: 1.0805\n\n{words}\n", {**ALONE, "bytes_total": None}, NO_LOGS)
    messages = [i.message for i in check_folder(folder.write(tmp_path)).findings if i.rule == "A9-METADATA"]
    assert any("nothing tells the artifact's size" in message for message in messages) is named


@pytest.mark.parametrize(
    ("t", "df", "p"), [(31.8205, 1, 0.01), (6.9646, 2, 0.01), (2.8214, 9, 0.01), (-2.8214, 9, 0.99)]
)
def test_tails_of_student_t_are_those_of_the_tables(t, df, p):
    assert student_tail(t, df) == pytest.approx(p, rel=1e-4)
