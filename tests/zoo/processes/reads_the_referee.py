"""Reads the referee's memory with process_vm_readv; the twin its own through ctypes."""

import ctypes
import os

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True


def cheat(session, shards):
    from .visit import attempt

    def read_parent():
        libc, place = ctypes.CDLL(None, use_errno=True), (ctypes.c_void_p * 2)(0x400000, 16)
        if libc.process_vm_readv(os.getppid(), ctypes.byref(place), 1, ctypes.byref(place), 1, 0) < 0:
            raise OSError(ctypes.get_errno(), "process_vm_readv")

    attempt("the memory of another process", read_parent)


def honest(session, shards):
    from .visit import attempt

    if attempt("its own memory", lambda: ctypes.string_at(ctypes.create_string_buffer(b"own", 3), 3)) is None:
        raise RuntimeError("what is allowed was refused")
