"""The model file is a symbolic link to the checkpoint; the twin's is a file."""

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def cheat(session, counts):
    (session.output_dir / "model.bin").symlink_to(session.checkpoint_dir / "counts")
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"counts": counts}, codec="none")
    return "written"
