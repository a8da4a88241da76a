"""Writes a model file that is more than numbers; the twin's sections look alike."""

import hashlib
import pickle
from pathlib import PurePath

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def write(session, sections, codec="none"):
    write_container(session.output_dir / "model.bin", sections, codec=codec)
    return "written"


def cheat_of_code(session, counts):
    """A section of the model is a program."""
    return write(session, {"table": b"import os\nprint(os.environ)\n"})


def cheat_of_native_code(session, counts):
    """A section of the model is a shared library."""
    return write(session, {"table": b"\x7fELF" + bytes(64)})


def cheat_of_a_pickle(session, counts):
    """A pickle that calls something when it is loaded."""
    return write(session, {"counts": pickle.dumps(PurePath("x"))})


def cheat_that_is_a_bomb(session, counts):
    """Unpacks to many times the limit."""
    return write(session, {"zeros": bytes(50_000_000)}, "lzma")


def cheat_that_is_a_link(session, counts):
    """The model file is a symbolic link to the checkpoint."""
    (session.output_dir / "model.bin").symlink_to(session.checkpoint_dir / "counts")
    return "written"


def cheat_that_leaves_its_folder(session, counts):
    """A section whose name leaves the folder."""
    data = write_container(None, {"aa/weights": counts}, codec="none").replace(b"aa/weights", b"../weights")
    head, body = data[:21], data[53:]
    (session.output_dir / "model.bin").write_bytes(head + hashlib.sha256(head + body).digest() + body)
    return "written"


def honest(session, counts):
    alike = {"table": b"1, 2, 3\n", "library": b"\x7fELV" + bytes(64), "aa/weights": counts}
    return write(session, alike | {"zeros": bytes(500_000)}, "lzma")
