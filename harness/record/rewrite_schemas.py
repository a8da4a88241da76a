"""``python -m harness.record.rewrite_schemas`` writes the committed schemas anew, and lists this version's tracks.

A version of a schema is never changed in a way that an old record would not pass: new fields have defaults, and
anything else gets a new version, a new predicate type and a new file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from harness.config.tracks import load_track, track_names
from harness.files import write_atomic
from harness.record.known import KNOWN_FILE, Known, terms_of
from harness.record.schema import FOLDER
from harness.record.statement import CHAIN_FOLDERS, KINDS

ADDED = {"required": ["provenance", "training"], "properties": {"provenance": {"type": "object"}}}
"""What version 2 of a run record must hold beyond version 1; one struct reads both, so there it has defaults."""


def generated() -> dict[Path, str]:
    """What every generated file must hold: the schemas, and ``known.json`` with this version's tracks among others."""
    documents: dict[Path, Any] = {}
    for folder in CHAIN_FOLDERS:
        types, struct = KINDS[folder]
        for version, predicate_type in enumerate(types, start=1):
            document = msgspec.json.schema(struct) if version == 1 else {"$ref": types[0], **ADDED}
            title = f"{folder.removesuffix('s')}.v{version}"
            head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": predicate_type, "title": title}
            documents[FOLDER / f"{title}.schema.json"] = head | document
    listed = msgspec.json.decode(KNOWN_FILE.read_bytes(), type=Known)
    for track in map(load_track, track_names()):
        listed.tracks.setdefault(track.name, {}).setdefault(track.digest, terms_of(track))
    texts = {path: json.dumps(document, indent=2) + "\n" for path, document in documents.items()}
    return texts | {KNOWN_FILE: json.dumps(msgspec.to_builtins(listed), indent=1) + "\n"}


if __name__ == "__main__":
    for path, text in generated().items():
        write_atomic(path, text.encode(), replace=True)
