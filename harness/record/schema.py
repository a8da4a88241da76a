"""JSON Schema 2020-12 of the predicates, generated from the structs that type them.

``python -m harness.record.schema`` rewrites the committed ``*.v1.schema.json`` beside this file; a test fails while
they and the structs disagree. A version is never changed in a way that an old record would not pass: new fields
have defaults, and anything else gets a new version, a new predicate type and a new file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from harness.record.canonical import write_atomic
from harness.record.statement import CHAIN_FOLDERS, KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILES = {"runs": "run.v1.schema.json", "intents": "intent.v1.schema.json", "reviews": "review.v1.schema.json"}


def schema_document(folder: str) -> dict[str, Any]:
    """The schema of the predicates in one folder of a records folder."""
    predicate_type, struct = KINDS[folder]
    generated = msgspec.json.schema(struct)
    return {"$schema": DIALECT, "$id": predicate_type, "title": FILES[folder].removesuffix(".schema.json"), **generated}


def schema_path(folder: str) -> Path:
    """The committed file."""
    return Path(__file__).with_name(FILES[folder])


def schema_text(folder: str) -> str:
    """What the committed file holds."""
    return json.dumps(schema_document(folder), indent=2) + "\n"


if __name__ == "__main__":
    for name in CHAIN_FOLDERS:
        write_atomic(schema_path(name), schema_text(name).encode(), replace=True)
