"""``python tests/support/rewrite_schemas.py`` writes the committed schemas anew, and lists this version's tracks.

A version of a schema is never changed in a way that an old record would not pass: new fields have defaults, and
anything else gets a new version, a new predicate type and a new file. That one says by hand what a record must hold
beyond the first version: one struct reads both, so there it has defaults.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from harness.config.tracks import load_track, track_names
from harness.files import write_atomic
from harness.record.arithmetic import KNOWN_FILE, Known, terms_of
from harness.record.statement import CHAIN_FOLDERS, FOLDER, KINDS


def generated() -> dict[Path, str]:
    """What every generated file must hold: each schema's first version; in ``known.json`` this version's tracks."""
    texts = {}
    for folder in CHAIN_FOLDERS:
        (first, *_), struct = KINDS[folder]
        title = f"{folder.removesuffix('s')}.v1"
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": first, "title": title}
        texts[FOLDER / f"{title}.schema.json"] = json.dumps(head | msgspec.json.schema(struct), indent=2) + "\n"
    listed = msgspec.json.decode(KNOWN_FILE.read_bytes(), type=Known)
    for track in map(load_track, track_names()):
        listed.tracks.setdefault(track.name, {}).setdefault(track.digest, terms_of(track))
    return texts | {KNOWN_FILE: json.dumps(msgspec.to_builtins(listed), indent=1) + "\n"}


if __name__ == "__main__":
    for path, text in generated().items():
        write_atomic(path, text.encode(), replace=True)
