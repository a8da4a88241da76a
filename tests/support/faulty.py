"""A copy of the submission in which one rank meets a fault at a chosen place."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES = {
    "start": "fault()",
    "step": 'before("train.trainer", "Trainer", "step", 6)',
    "score": 'before("eval.predictor", "HybridPredictor", "_score_rows", 5)',
    "adapt": 'before("eval.predictor", "HybridPredictor", "_adapt", 4)',
}
FAULTS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "out of memory": "bytearray(1 << 45)",  # more than any limit
    "late": "time.sleep(2)",
}
ENTRY = """
import importlib, os, runpy, signal, time

def fault():
    {fault}

def before(module, owner, method, call):
    owner = getattr(importlib.import_module("submission." + module), owner)
    real, calls = getattr(owner, method), []
    def hurt(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            fault()
        return real(*arguments, **options)
    setattr(owner, method, hurt)

if os.environ["RANK"] == "{victim}":
    {place}
runpy.run_module("submission.{phase}_entry", run_name="__main__")
"""


def faulty_submission(folder: Path, phase: str, place: str, fault: str, victim: int) -> Path:
    """The submission below ``folder`` with an entry ``faulty`` for ``phase``."""
    copy = folder / "faulty"
    shutil.copytree(ROOT / "submission", copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = ENTRY.format(fault=FAULTS[fault], place=PLACES[place], victim=victim, phase=phase)
    (copy / "faulty.py").write_text(text)
    manifest = copy / "submission.toml"
    manifest.write_text(manifest.read_text().replace(f'{phase} = "{phase}_entry"', f'{phase} = "faulty"'))
    return copy
