"""Log lines of every public family, under time stamps, rank prefixes, colours, CRLF and embedded source."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from public_folders import SCRIPT, PublicFolder

from harness.review.jsonfile import parse_json, read_metadata
from harness.review.logs import decode, read_log

FINALS = [
    "final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570",
    "final_int6_roundtrip val_loss:2.07269931 val_bpb:1.22436570 eval_time:7093ms",
    "final_int6_sliding_window_exact val_loss:2.07269931 val_bpb:1.22436570",
    "final_sliding_window_eval_exact stride:64 val_loss:2.07269931 val_bpb:1.22436570",
    "final_sliding_window sliding val_loss:2.07269931 sliding val_bpb:1.22436570",
    "final_int8_ttt_lora val_loss:2.07269931 val_bpb:1.22436570 eval_time:5ms",
    "final_int6_ttt val_loss: 2.07269931 val_bpb: 1.22436570",
    "final_ternary_roundtrip val_loss:2.07269931 val_bpb:1.22436570 time:93123ms",
    "final_INT7_zlib_roundtrip val_loss:2.07269931 val_bpb:1.22436570",
    "legal_ttt_exact val_loss:2.07269931 val_bpb:1.22436570 eval_time:293430ms",
    "quantized_ttt_phased val_loss:2.07269931 val_bpb:1.22436570 eval_time:391198ms",
    "final_temped val_loss=2.07269931 val_bpb=1.22436570",
    "final_quant_zlib(level=9)_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570",
]
NOT_FINAL = [
    "DIAGNOSTIC post_ema val_loss:1.0 val_bpb:0.5",
    "diagnostic quantized val_loss:1.0 val_bpb:0.5 eval_time:9ms",
    "pre-quantization post-ema val_loss:1.0 val_bpb:0.5",
    "step:5/10 val_loss:1.0 val_bpb:0.5 train_time:5ms",
    "  ttt_chunk [921/1238] bpb=0.5 time=217.1s",
    "ttp: b144/782 bl:1.0 bb:0.5 rl:1.0 rb:0.5 dl:239-240 gd:1",
    'log0(f"final_int8_zlib_roundtrip val_loss:{q:.4f} val_bpb:{b:.4f}")',
    '    print("final_int8 val_loss:1.0 val_bpb:0.5")',
]
PREFIXES = [
    "",
    "1774412345.123 ",
    "[2026-03-18 14:38:12] ",
    "2026-03-18T14:38:12.123Z ",
    "[rank0]: ",
    "[default0]:",
    "0: ",
    "\x1b[32m",
]


@pytest.mark.parametrize("line", FINALS)
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_every_final_line_is_read_under_every_prefix(line, prefix, end):
    text = end.join(prefix + each for each in [*NOT_FINAL[:3], line, *NOT_FINAL[3:]])
    final = read_log("x.log", text)[0].final
    assert (final.bpb.value, final.loss.value) == (1.2243657, 2.07269931)


def test_an_indented_pass_is_read():
    assert read_log("x.log", f"  {FINALS[0]}  eval_time:38.6s")[0].final


@pytest.mark.parametrize("line", NOT_FINAL)
def test_other_lines_are_no_final_score(line):
    assert read_log("x.log", line)[0].final is None


def test_the_exact_line_and_the_timed_line_are_one_pass():
    text = "final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms\n" + FINALS[0]
    log = read_log("x.log", text)[0]
    assert [(s.bpb.text, s.seconds) for s in log.passes] == [("1.22436570", 1.401)]


def test_the_last_pass_is_the_final_one():
    text = "\n".join([FINALS[1], "legal_ttt val_loss:2.0 val_bpb:1.2", FINALS[4].replace("1.224", "1.199")])
    assert read_log("x.log", text)[0].final.bpb.value == 1.19936570


@pytest.mark.parametrize("family", ["modern", "classic", "ternary"])
def test_embedded_source_changes_nothing(family):
    run = PublicFolder(family).seeds[0]
    run.code_bytes = 5
    log = run.log(family)
    source = SCRIPT + "\n".join(NOT_FINAL[-2:]) + '\n    log0(f"Code size: {n} bytes")\n'
    plain, mixed = read_log("a", log)[0], read_log("a", (source + log))[0]
    assert (plain.final.bpb, plain.total.value, plain.seed) == (mixed.final.bpb, mixed.total.value, mixed.seed)
    assert [c.value for c in plain["codes"]] == [c.value for c in mixed["codes"]]


FACTS = [
    ("Total submission size int6+zstd: 15534645 bytes", "total", 15_534_645),
    ("budget:15912345/16000000 (87655 left)", "total", 15_912_345),
    ("INT7+zlib model: 15370972 bytes | Total submission: 15441941 bytes", "total", 15_441_941),
    ("artifact_bytes: 15999999", "total", 15_999_999),
    ("stopping_early: wallclock_cap train_time: 587061ms step: 4845/20000", "stops", 587.061),
    ("stopping_early: wallclock_cap train_time:600038ms step:13780/20000", "stops", 600.038),
    ("gptq:reserving 12s, effective=588000ms", "reserves", 12),
    ("gptq:reserving 14000ms from training budget, effective=586000ms", "reserves", 14),
    ("val_loader:shards pattern=./fineweb_val_*.bin tokens:62021632", "val_tokens", 62_021_632),
    ("val tokens: 62021632", "val_tokens", 62_021_632),
]


@pytest.mark.parametrize(("line", "name", "value"), FACTS, ids=[line[:24] for line, _, _ in FACTS])
def test_single_facts_are_read(line, name, value):
    run = read_log("x.log", line)[0]
    assert (run.total if name == "total" else run.one(name)).value == value


@pytest.mark.parametrize("line", ["seed:42", "  seed: 42", "seed: 42 ", "torch_seed lr:0.1 seed:42 n:1"])
def test_seeds_are_read(line):
    assert read_log("x.log", line)[0].seed == 42


def test_the_raw_model_size_is_no_artifact_size():
    assert read_log("x.log", "Total submission size: 67275902 bytes")[0].total is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**7), st.floats(0.9, 4), st.floats(1, 9), st.sampled_from(PREFIXES))
def test_any_figures_come_back(steps, bpb, loss, prefix):
    text = (
        f"{prefix}stopping_early: wallclock_cap train_time: 588010ms step: {steps}/20000000\n"
        f"{prefix}legal_ttt_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f} eval_time:5ms\n"
    )
    log = read_log("x.log", text)[0]
    assert log.last_step == steps
    assert (log.final.bpb.value, log.final.loss.value) == (round(bpb, 8), round(loss, 8))


@pytest.mark.parametrize(
    ("raw", "name", "value"),
    [
        ({"mean_val_bpb": 1.1}, "val_bpb", 1.1),
        ({"mean_bpb": 1.1}, "val_bpb", 1.1),
        ({"artifact_size_bytes": 5}, "bytes_total", 5),
        ({"artifact_bytes_max": 5, "artifact_bytes_mean": 4}, "bytes_total", 5),
        ({"code_bytes": 5}, "bytes_code", 5),
        ({"std_bpb": 0.1}, "val_bpb_std", 0.1),
    ],
)
def test_spellings_of_the_metadata(raw, name, value):
    assert read_metadata(parse_json(json.dumps(raw).encode()), "").number(name).value == value


@pytest.mark.parametrize(
    "raw",
    [
        {"seeds": {"1": {"val_bpb": 1.1}, "2": {"val_bpb": 1.2}}},
        {"seed_results": {"1": {"val_bpb": 1.1}, "2": {"val_bpb": 1.2}}},
        {"seed_results": {"seed_1": 1.1, "seed_2": 1.2}},
        {"runs": [{"seed": 1, "val_bpb": 1.1}, {"seed": 2, "val_bpb": 1.2}]},
    ],
)
def test_spellings_of_seed_results(raw):
    found = read_metadata(parse_json(json.dumps(raw).encode()), "")
    assert {seed: r["val_bpb"].value for seed, r in found.results.items()} == {1: 1.1, 2: 1.2}
    assert sorted(found.seeds) == [1, 2]


RUN = PublicFolder().seeds[0]
RUN.code_bytes = 5
LINES = RUN.log("modern").splitlines()


def facts(text):
    (run,) = read_log("train_seed1.log", text)
    return (
        *(
            run.seed,
            run.total.value,
            run["stops"][-1].value,
            run.one("val_tokens").value,
            run.settings["matrix_lr"][0],
            len(run["gpus"]),
        ),
        *(sum(item.value for item in run["hessians"]), [(p.name, p.bpb.text, p.seconds) for p in run.passes]),
    )


FORMS = {
    "logging": "INFO:root:{}",
    "ray": "(RayTrainWorker pid=4711, ip=10.0.0.1) {}",
    "journald": "Nov 29 13:08:38 node7 python[4711]: {}",
    "compose": "train-1  | {}",
    "loguru": "2026-04-05 12:00:00.123 | INFO     | __main__:log0:12 - {}",
    "mpirun": "[1,0]<stdout>:{}",
    "kubernetes": "2026-04-05T12:00:00.123456789Z stdout F {}",
    "colours": "\x1b[32m{}\x1b[0m",
    "bar before": "\r 10%|#   | 1/10 [00:01<00:09]\r{}",
    "bar behind": "{}\r100%|####| 10/10 [00:10<00:00]",
    "bar, no return": " 99%|####| 99/100 [00:10<00:00]{}",
}


@pytest.mark.parametrize("form", list(FORMS.values()), ids=list(FORMS))
def test_a_log_says_the_same_whatever_it_is_wrapped_in(form):
    assert facts("\n".join(form.format(line) for line in LINES)) == facts("\n".join(LINES))


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_log_says_the_same_in_every_encoding(codec):
    assert facts(decode("\r\n".join(LINES).encode(codec))) == facts("\n".join(LINES))


def test_eight_ranks_that_print_alike_count_once():
    assert facts("\n".join(f"[rank{rank}]: {line}" for line in LINES for rank in range(8))) == facts("\n".join(LINES))


def test_a_seed_in_printed_source_is_no_seed():
    source = "import os\nseed = 42\nlog0(f'seed: {x}')\nseed:43\n" + "=" * 100 + "\n"
    assert facts(source + "\n".join(LINES)) == facts("\n".join(LINES))


def test_appended_runs_are_apart_and_an_evaluation_belongs_to_its_run():
    other = PublicFolder().seeds[1]
    other.code_bytes = 5
    runs = read_log("all.log", RUN.log("modern") + other.log("modern") + "legal_ttt val_loss:2.7 val_bpb:1.07\n")
    assert [(run.seed, [p.name for p in run.passes][-1]) for run in runs] == [
        (1, "quantized_sliding_window"),
        (2, "legal_ttt"),
    ]


def test_a_pass_has_its_full_name():
    text = "final_x_exact val_loss:2.0 val_bpb:1.20000000\nfinal_x_exact sliding val_loss:1.9 val_bpb:1.18000000\n"
    (run,) = read_log("x.log", text)
    assert [p.name for p in run.passes] == ["final_x", "final_x sliding"]


def test_progress_is_no_setting_and_bits_a_token_are_no_score():
    text = "lr:0.1 n:2\nstep:1000/20000 loss:3.31 t:91478ms avg:91.5ms\nstep:1/9 val_loss:2.0000 val_bpb:2.8854\n"
    (run,) = read_log("x.log", text)
    assert (sorted(run.settings), run.curve) == (["lr", "n"], [])
