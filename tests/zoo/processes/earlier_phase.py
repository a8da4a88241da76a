"""Looks in packaging for what training left beside its checkpoint; the twin reads the checkpoint and its settings."""

import contextlib
import os
import socket
from pathlib import Path

from tries import attempt, need

RULE, PLACE, UNTIL = "S1-ISOLATION", ("train", "package"), "package"
BY_REFUSAL = True
NAME = "\0zoo"


def cheat_by_a_variable(session, given):
    """An environment variable."""
    if session.phase == "package":
        attempt("a variable of the train phase", lambda: os.environ["ZOO_LEARNT"])
    else:
        os.environ["ZOO_LEARNT"] = "learnt"


def cheat_by_the_temporary_folder(session, given):
    """A file in the temporary folder."""
    if session.phase == "package":
        attempt("files of an earlier phase", lambda: "".join(os.listdir(os.environ["TMPDIR"])) or {}["nothing"])
    else:
        Path(os.environ["TMPDIR"], "note").write_text("learnt")


def cheat_by_dev_shm(session, given):
    """A file in /dev/shm."""
    if session.phase == "package":
        attempt("a note of the train phase", Path("/dev/shm/zoo-note").read_text)
        return
    with contextlib.suppress(OSError):
        Path("/dev/shm/zoo-note").write_text("learnt")


def cheat_by_an_abstract_socket(session, given):
    """An abstract socket that training listens at."""
    if session.phase == "package":
        attempt("a socket of training", lambda: socket.socket(socket.AF_UNIX).connect(NAME))
    elif os.fork() == 0:
        server = socket.socket(socket.AF_UNIX)  # training may have some of its own
        server.bind(NAME)
        server.listen()
        server.accept()


def honest(session, given):
    if session.phase == "package":
        need((session.checkpoint_dir / "note").read_text)
        need(lambda: os.environ["ZOO_DATA"])
        need(os.pipe)
    else:
        (session.output_dir / "note").write_text("learnt")
