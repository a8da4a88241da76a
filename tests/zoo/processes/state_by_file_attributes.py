"""Leaves what it learnt at a file that it may only read: attributes, times, modes, hints; the twin reads the file."""

import fcntl
import os
import struct

RULE, PLACE, UNTIL = "S1-ISOLATION", "build", "eval"
BY_REFUSAL = True
SET_FLAGS, SET_WRITE_HINT = 0x40086602, 1036


def cheat(context):
    from .visit import attempt

    place = context.model_file
    file = os.open(place, os.O_RDONLY)

    def changed(action, what):
        before = getattr(place.stat(), what)
        action()
        if getattr(place.stat(), what) == before:
            raise PermissionError("nothing stayed")

    attempt("an attribute", lambda: os.setxattr(place, b"user.zoo", b"learnt"))
    attempt("a time", lambda: changed(lambda: os.utime(place, ns=(1, 1)), "st_mtime_ns"))
    attempt("a mode", lambda: changed(lambda: place.chmod(0o444), "st_mode"))
    attempt("a flag", lambda: fcntl.ioctl(file, SET_FLAGS, struct.pack("q", 0x40)))
    attempt("a hint", lambda: fcntl.fcntl(file, SET_WRITE_HINT, struct.pack("Q", 3)))


def honest(context):
    from .visit import attempt

    if attempt("its model file", context.model_file.read_bytes) is None:
        raise RuntimeError("what is allowed was refused")
