"""A folder and its twin, which says the same in another form, get the same verdicts; sound ones and broken ones."""

import json
from dataclasses import dataclass

import pytest
from public_folders import SCRIPT, PublicFolder, Seed

from harness.review.folder import check_folder
from harness.rules import Verdict


@dataclass
class Form:
    """How logs are written, and what else lies in the folder. line: around each line; codec: of the log files."""

    line: str = "{}"
    head: str = ""
    codec: str = "utf-8"
    end: str = "\n"
    one_file: bool = False
    readme: str = ""

    def write(self, folder, root, beside=()):
        logs = {}
        for run in folder.seeds:
            run.code_bytes = len(folder.script.encode())
            logs[f"train_seed{run.seed}.log"] = self.head + run.log("modern")
        folder.files |= dict.fromkeys(logs)
        logs = {"train.log": "".join(logs.values())} if self.one_file else logs
        for name, text in logs.items():
            lines = [self.line.format(line) for line in text.splitlines()]
            folder.files[name] = self.end.join(lines).encode(self.codec)
        folder.files |= beside
        if self.readme:
            folder.files["README.md"] = self.readme
        return folder.write(root)


README = """# Made up
**val_bpb: 1.0805 ± 0.0004** (3-seed mean[^1])

| Seed | Steps | Sliding BPB[^2] | Artifact |
|---|---:|---:|---:|
| 1 | 5,000 | **1.0801** | TOTAL |
| 2 | 5,000 | 1.0809 | TOTAL |
| 3 | 5,000 | 1.0805 | TOTAL |
| **Mean ± std** | | **1.0805 ± 0.0004** | |

[^1]: seeds 1, 2, 3. [^2]: stride 64.
""".replace("TOTAL", f"{15_900_000 + len(SCRIPT):,}")
FORMS = {  # what wraps a line, and every encoding, is tested in test_logs.py
    "logging": Form("INFO:root:{}"),
    "UTF-16 by PowerShell": Form(codec="utf-16", end="\r\n"),
    "printed source": Form(head=SCRIPT + "\n    log0(f'seed: {seed}')\nseed = 42\n" + "=" * 100 + "\n"),
    "appended runs": Form(one_file=True),
    "README with ± and footnotes": Form(readme=README),
}
BROKEN = {
    "sound": ({}, {}),
    "clock": ({"train_ms": 601_153}, {}),
    "bytes": ({"model_bytes": 16_024_000}, {}),
    "count": ({"n_bytes": 157_319_833}, {}),
    "pre-quant": ({"early": ["prequant_ttt:start epochs=21 lr=0.0005"]}, {}),
    "claim": ({}, {"val_bpb": 1.0430}),
    "placeholder": ({}, {"val_bpb": 0.0, "author": "pending"}),
    "nan": ({"after": ["quantized_ttt val_loss:nan val_bpb:nan eval_time:5ms"]}, {}),
}


def made(fault):
    changes, metadata = BROKEN[fault]
    folder = PublicFolder(metadata=dict(metadata))
    for name, value in changes.items():
        setattr(folder.seeds[1], name, value)
    return folder


def verdicts(path):
    return {(i.rule, i.verdict) for i in check_folder(path).findings if i.verdict in (Verdict.FAIL, Verdict.WARN)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return {fault: verdicts(Form().write(made(fault), tmp_path_factory.mktemp("plain"))) for fault in BROKEN}


@pytest.mark.parametrize("form", list(FORMS))
def test_another_form_of_the_logs_changes_no_verdict(tmp_path, plain, form):
    assert plain["sound"] == set()
    assert all(found for fault, found in plain.items() if fault != "sound")
    for fault, found in plain.items():
        if not FORMS[form].readme or fault in ("sound", "clock", "pre-quant"):
            assert verdicts(FORMS[form].write(made(fault), tmp_path / fault)) == found, fault


def other_runs(**changes):
    """Logs of the same seeds from runs that are worse and late."""
    texts = {}
    for seed in PublicFolder().seeds:
        run = Seed(seed.seed, seed.bpb + 0.004, seed.tokens, code_bytes=len(SCRIPT), train_ms=612_000)
        for name, value in changes.items():
            setattr(run, name, value)
        texts[run.seed] = run.log("modern")
    return texts


BESIDE = {
    "rerun": {f"rerun/train_seed{seed}.log": text for seed, text in other_runs().items()},
    "ablation": {f"ablations/no_xsa_seed{s}.log": t for s, t in other_runs(settings={"num_layers": 9}).items()},
    "smoke run before": {"a_smoke.log": other_runs(bpb=2.1)[1]},
    "checkpoints": {f".ipynb_checkpoints/train_seed{s}-checkpoint.log": t for s, t in other_runs().items()},
    "results as JSON": {"results/seed_1.json": json.dumps({"val_bpb": 1.0801})},
}


@pytest.mark.parametrize("beside", list(BESIDE))
def test_runs_beside_the_claimed_ones_change_no_verdict(tmp_path, plain, beside):
    for fault in ("sound", "clock", "pre-quant", "placeholder"):
        if fault == "placeholder" and "seed" not in str(BESIDE[beside]):
            continue
        found = verdicts(Form().write(made(fault), tmp_path / fault, BESIDE[beside]))
        kept = {item for item in plain[fault] if item[0] != "A1-TRAIN-CLOCK"} if fault == "clock" else plain[fault]
        assert {rule for rule, verdict in found if verdict is Verdict.FAIL} <= {rule for rule, _ in plain[fault]}
        assert kept <= found
        assert fault == "clock" or found == plain[fault]
