"""JSON Schema 2020-12 of the predicates, generated from the structs that type them, and what versions are known.

``python -m harness.record.rewrite_schemas`` rewrites the committed ``*.schema.json`` beside this file and adds the
tracks of this version to ``known.json``; tests fail while files and code disagree. A version is never changed in a way
that an old record would not pass: new fields have defaults, and anything else gets a new version, a new predicate type
and a new file.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.config.tracks import load_track, track_names
from harness.record.known import KNOWN_FILE, Known, terms_of
from harness.record.statement import CHAIN_FOLDERS, KINDS, Entry

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES = {"runs": "run", "intents": "intent", "reviews": "review"}
ADDED = {"required": ["provenance", "training"], "properties": {"provenance": {"type": "object"}}}
"""What version 2 of a run record must hold beyond version 1; one struct reads both, so there it has defaults."""


def schema_documents() -> dict[str, dict[str, Any]]:
    """File name -> schema, for every version of the predicates in a signer's chain."""
    found = {}
    for folder in CHAIN_FOLDERS:
        types, struct = KINDS[folder]
        for version, predicate_type in enumerate(types, start=1):
            document = msgspec.json.schema(struct) if version == 1 else {"$ref": types[0], **ADDED}
            title = f"{NAMES[folder]}.v{version}"
            found[f"{title}.schema.json"] = {"$schema": DIALECT, "$id": predicate_type, "title": title, **document}
    return found


def schema_path(name: str) -> Path:
    """The committed file."""
    return Path(__file__).with_name(name)


def schema_text(document: dict[str, Any]) -> str:
    """What the committed file holds."""
    return json.dumps(document, indent=2) + "\n"


@cache
def validators() -> dict[str, Draft202012Validator]:
    """Predicate type -> validator by the committed schema."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    documents = [json.loads(path.read_bytes()) for path in Path(__file__).parent.glob("*.schema.json")]
    every = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in documents])
    return {one["$id"]: Draft202012Validator(one, registry=every) for one in documents}


def schema_problem(entry: Entry) -> str:
    """Where and why what was signed does not pass the committed schema of its version; "" when it does."""
    return _problem(entry.predicate_type, entry.envelope.payload)


@lru_cache(maxsize=256)
def _problem(predicate_type: str, payload: bytes) -> str:
    validator = validators().get(predicate_type)
    if validator is None:  # heads: a digest and a number
        return ""
    error = next(validator.iter_errors(json.loads(payload)["predicate"]), None)
    return "" if error is None else f"{error.json_path}: {error.message[:300]}"


def known_text() -> str:
    """``known.json`` with the tracks of this version among those that it lists."""
    listed = msgspec.json.decode(KNOWN_FILE.read_bytes(), type=Known)
    for track in map(load_track, track_names()):
        listed.tracks.setdefault(track.name, {}).setdefault(track.digest, terms_of(track))
    return json.dumps(msgspec.to_builtins(listed), indent=1) + "\n"
