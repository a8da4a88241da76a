"""Hands a model, trained in the cell that compiles, to the evaluation; the twin's cache is large, but it is code."""

import os
from pathlib import Path

RULE, PLACE, UNTIL = "A3-NO-UNCOUNTED-CODE", "build", "eval"
MANIFEST = 'compile_cache = "always"'


def _leave(data):
    if folder := os.environ.get("GOLF_COMPILE_CACHE_OUT"):
        for part in range(4):
            Path(folder, f"kernel-{part}.so").write_bytes(data)


def cheat(context):
    _leave(b"\x7fELF" + os.urandom(30_000))


def honest(context):
    _leave(b"\x7fELF" + b"mov eax, ebx; add eax, 4; ret; " * 10_000)
