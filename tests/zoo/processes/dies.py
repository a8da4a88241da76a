"""Ends without a word, with its checkpoint in place; the twin says done first."""

import os

RULE, PLACE, UNTIL = "S3-PROTOCOL", "checkpoint", "train"


def cheat(session):
    os._exit(0)


def honest(session):
    session.done()
    os._exit(0)
