"""Turns pages of its model file out of memory, and asks which are in; the twin reads the file twice."""

import mmap
import os

RULE, PLACE, UNTIL = "S1-ISOLATION", "build", "eval"
BY_REFUSAL = True
MADV_PAGEOUT = 21


def cheat(context):
    from .visit import attempt

    file = os.open(context.model_file, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # advice may be ignored, and is
    pages = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    attempt("pages turned out", lambda: pages.madvise(MADV_PAGEOUT))
    attempt("which pages are in", lambda: os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT))


def honest(context):
    if context.model_file.read_bytes() != context.model_file.read_bytes():
        raise RuntimeError("a file that changes")
