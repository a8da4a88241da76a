"""Every signed predicate against the committed JSON Schema (2020-12) of its version.

``python -m harness.record.rewrite_schemas`` writes the ``*.schema.json`` beside this file from the structs that type
the predicates; a test fails while files and code disagree.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent


@cache
def validators() -> dict[str, Draft202012Validator]:
    """Predicate type -> validator by the committed schema."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    documents = [json.loads(path.read_bytes()) for path in FOLDER.glob("*.schema.json")]
    every = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in documents])
    return {one["$id"]: Draft202012Validator(one, registry=every) for one in documents}


@lru_cache(maxsize=256)
def schema_problem(predicate_type: str, payload: bytes) -> str:
    """Where and why what was signed does not pass the committed schema of its version; "" when it does."""
    validator = validators().get(predicate_type)
    if validator is None:  # heads: a digest and a number
        return ""
    error = next(validator.iter_errors(json.loads(payload)["predicate"]), None)
    return "" if error is None else f"{error.json_path}: {error.message[:300]}"
