"""Model file, bundle and description.json as a hostile submission would write them."""

import json
import os
import pickle
import tracemalloc

import pytest
from address_space import at_most_more
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import CouldNotCheck, RuleBroken
from harness.protocol.container import write_container
from harness.run import artifact
from harness.run.artifact import executable_kind, pack_code, read_model_file, unpack_code
from harness.run.phases import read_description


def read(path, max_bytes=100_000):
    return read_model_file(path, max_bytes=max_bytes, max_unpacked_bytes=1_000_000)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_file_is_a_model_or_a_broken_rule(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(data)
    with pytest.raises(RuleBroken):
        read(path)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_section_is_judged_without_an_exception(data):
    assert isinstance(executable_kind(data), str)


@pytest.mark.parametrize(
    "section",
    [
        b"[" * 200_000,
        b'{"version": ' + b"9" * 5_000 + b"}",
        b"-" * 200_000 + b"1",
        b"not " * 100_000 + b"a",
        b"I" + b"9" * 5_000 + b"\n.",
        b"\x80\x02L" + b"9" * 5_000 + b"L\n.",
        b"import a" + b".a" * 300_000,
        b"from a" + b" . \\\n a" * 90_000 + b" import b",
    ],
    ids=["nested", "digits", "signs", "words", "pickled digits", "pickled long", "dotted", "dotted with gaps"],
)
def test_nesting_long_numbers_and_long_names_end_in_a_judgement(section):
    """A parser's quadratic memory would fill the referee's machine."""
    tracemalloc.start()
    with at_most_more(2048):
        assert executable_kind(section) == ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 512 << 20


def test_a_short_dotted_import_is_still_source():
    assert executable_kind(b"import os.path as p\nfrom a.b.c import d\n" + b"x = a.b\n" * 300) == "Python source"


@pytest.mark.parametrize("make", ["missing", "link", "fifo", "folder"])
@pytest.mark.rule("A3-CONTAINER")
def test_what_is_no_regular_file_is_refused(tmp_path, make):
    model, description = tmp_path / "model.bin", tmp_path / "description.json"
    sound = {model: write_container(None, {"a": b"1"}, codec="none"), description: b'{"config": {}, "parameters": 1}'}
    for path, content in sound.items():
        if make == "link":
            path.with_suffix(".own").write_bytes(content)
            path.symlink_to(path.with_suffix(".own"))
        elif make == "fifo":
            os.mkfifo(path)
        elif make == "folder":
            path.mkdir()
    with pytest.raises(RuleBroken, match="A3-CONTAINER"):
        read(model)
    with pytest.raises(ValueError, match=r"description\.json"):
        read_description(description)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_is_named_at_every_protocol(protocol):
    assert executable_kind(pickle.dumps(ValueError("x"), protocol)) == "a pickle"


@pytest.mark.rule("A3-CONTAINER")
def test_what_takes_an_hour_to_be_judged_is_no_verdict(tmp_path, monkeypatch):
    write_container(tmp_path / "model.bin", {"a": b"\x80\x04" + b"N" * 900_000}, codec="lzma")
    assert read(tmp_path / "model.bin")
    monkeypatch.setattr(artifact, "JUDGE_S", 0.001)
    with pytest.raises(CouldNotCheck, match="read like pickles or source up to 'a'"):
        read(tmp_path / "model.bin")


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6})?\.py", fullmatch=True), st.binary(max_size=100), max_size=4)
)
@settings(max_examples=15, deadline=None)
def test_the_bundle_unpacks_to_what_was_packed(tmp_path_factory, files):
    target = tmp_path_factory.mktemp("unpacked") / "code"
    target.mkdir()
    unpack_code(pack_code(files), target)
    assert {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()} == files


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
NAME = st.text("abc_", min_size=1, max_size=5)


def described(folder, data: bytes):
    path = folder / "description.json"
    path.write_bytes(data)
    return read_description(path)


@given(st.dictionaries(NAME, PLAIN, max_size=4), st.integers(0, 2**53 - 1), st.none() | st.lists(NAME, max_size=2))
@settings(max_examples=60, deadline=None)
def test_what_a_session_publishes_is_read(tmp_path_factory, config, parameters, notes):
    told = {"config": config, "parameters": parameters} | ({} if notes is None else {"notes": notes})
    found = described(tmp_path_factory.getbasetemp(), json.dumps(told).encode())
    assert (found.config, found.parameters, found.notes) == (config, parameters, notes or [])


@given(JSON, JSON)
@settings(max_examples=200, deadline=None)
def test_any_values_in_the_right_frame_are_plain_or_refused(tmp_path_factory, config, parameters):
    try:
        found = described(
            tmp_path_factory.getbasetemp(), json.dumps({"config": config, "parameters": parameters}).encode()
        )
    except ValueError:
        return
    assert all(value is None or isinstance(value, str | int | float | bool) for value in found.config.values())
    assert found.parameters >= 0


@pytest.mark.parametrize(
    "text",
    [
        '{"config": {}, "parameters": 1, "parameters": 2}',
        '{"config": {"a": NaN}, "parameters": 1}',
        '{"config": {"a": 1e999}, "parameters": 1}',
        '{"config": {"a": "\\u001b[31m"}, "parameters": 1}',
        '{"config": {}, "parameters": true}',
        '{"config": {}, "parameters": -1}',
        '{"config": {}, "parameters": 1, "notes": [1]}',
        '{"config": {}, "parameters": 1, "notes": [' + '"a",' * 20 + '"a"]}',
        "[" * 50_000,
        " " * 100_001,
        '{"config": {"a": ' + "9" * 5000 + '}, "parameters": 1}',
    ],
    ids=["twice", "nan", "inf", "escape", "bool", "negative", "note", "many notes", "deep", "long", "digits"],
)
@pytest.mark.rule("S3-PROTOCOL")
def test_a_hostile_description_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"description\.json"):
        described(tmp_path, text.encode())
