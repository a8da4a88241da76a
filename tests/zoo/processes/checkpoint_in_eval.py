"""Loads the uncounted checkpoint in evaluation; the twin loads the counted model."""

RULE, PLACE, UNTIL = "A3-NO-UNCOUNTED-CODE", "build", "eval"
BY_REFUSAL = True


def cheat(context):
    from .visit import attempt

    attempt("the checkpoint", (context.model_file.parent.parent / "checkpoint" / "counts").read_bytes)


def honest(context):
    from .visit import attempt

    if attempt("its model", context.model_file.read_bytes) is None:
        raise RuntimeError("what is allowed was refused")
