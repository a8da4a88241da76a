"""Declares NaN parameters and a configuration of objects."""

RULE, PLACE, UNTIL = "S3-PROTOCOL", "describe", "describe"


def cheat(session):
    (session.output_dir / "description.json").write_text('{"config": {"a": {}}, "parameters": NaN}')


def honest(session):
    session.publish({"a": 1}, parameters=3)
