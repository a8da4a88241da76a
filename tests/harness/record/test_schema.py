"""The committed JSON Schema, the structs and the reader agree on what a record is; golden records stay as they are."""

import copy
import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import make_artifact, make_intent, make_record, stored_records
from rewrite_schemas import generated

from harness.record.predicate import Review
from harness.record.statement import FOLDER, KINDS, validators
from harness.record.verification import verify_folder
from harness.rules import Verdict

GENERATED = generated()
SCHEMAS = {path.name: json.loads(path.read_bytes()) for path in FOLDER.glob("*.schema.json")}


@pytest.mark.rule("R2-SCHEMA")
@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_the_committed_schemas_and_tracks_are_those_of_the_code(path: Path):
    assert path.read_text() == GENERATED[path], "run: python tests/support/rewrite_schemas.py"


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, dict]:
    artifact = make_artifact(Path(tmp_path_factory.mktemp("artifact")), 1)
    record = make_record(artifact, 1)
    review = Review("0" * 64, 3, "same", "2026-11-24T17:00:00Z", "1" * 64, 1.5, 2, 0.5, 0.0, "0.1.0", "cpu", [], "")
    older = msgspec.structs.replace(record, provenance=None, training=None)
    predicates = {"run.v1": older, "run.v2": record, "intent.v1": make_intent(record), "review.v1": review}
    return {
        f"{name}.schema.json": msgspec.json.decode(msgspec.json.encode(predicate))
        for name, predicate in predicates.items()
    }


def places(value, here=()):
    yield here
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*here, key))


def changed(sample, place, change):
    result = copy.deepcopy(sample)
    target = result
    for key in place[:-1]:
        target = target[key]
    if change == "remove":
        del target[place[-1]]
    elif change == "add":
        inner = target[place[-1]]
        if isinstance(inner, dict):
            inner["unheard_of"] = 1
        elif isinstance(inner, list):
            inner.append({"unheard_of": 1})
    else:
        target[place[-1]] = change
    return result


def accepts(name: str, sample) -> bool:
    if name.startswith("run.v2") and (sample.get("provenance") is None or "training" not in sample):
        return False  # what a later version must hold stands in its schema alone
    try:
        msgspec.json.decode(msgspec.json.encode(sample), type=KINDS[name.partition(".")[0] + "s"][1])
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_accepts_its_sample(name: str, samples):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert validators()[SCHEMAS[name]["$id"]].is_valid(samples[name])


@pytest.mark.rule("R2-SCHEMA")
@pytest.mark.parametrize("name", SCHEMAS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_schema_and_reader_accept_the_same_documents(name: str, samples, data):
    sample = samples[name]
    place = data.draw(st.sampled_from([p for p in places(sample) if p]))
    change = data.draw(st.sampled_from(["remove", "add", None, True, "text", -1, 2.5, [], {}]))
    document = changed(sample, place, change)
    assert accepts(name, document) == validators()[SCHEMAS[name]["$id"]].is_valid(document)


GOLDEN = Path(__file__).parent / "golden"  # of every past version; never edited: a new version adds a folder
FORMAT = ("R1-SIGNATURE", "R2-SCHEMA", "R3-CHAIN", "R5-INTENT")


@pytest.mark.rule("R2-SCHEMA")
def test_golden_records_still_read_and_chain():
    """Made-up runs over a made-up text, so their form is judged alone."""
    report = verify_folder(GOLDEN / "v1")
    assert len(report.records) == 3
    assert len(report.entries) > 6
    assert [f for f in report.findings if f.verdict is Verdict.FAIL and f.rule in FORMAT] == []
    older = [f.where for f in report.findings if "is of version 1" in f.message and f.verdict is Verdict.WARN]
    assert older == [entry.name for entry in report.records]


def test_a_golden_record_still_reads_as_it_did():
    first = stored_records(GOLDEN / "v1")[0]
    assert first.digest.startswith(first.path.stem.rpartition("-")[2])
    assert first.record.submission.config["MATRIX_LR"] == 0.025
    assert {score.stage for score in first.record.scores} == {"float", "packed", "final"}
