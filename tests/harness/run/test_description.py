"""``description.json`` as a hostile submission would write it."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.run.phases import read_description

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
NAME = st.text("abc_", min_size=1, max_size=5)


def read(folder, data: bytes):
    path = folder / "description.json"
    path.write_bytes(data)
    return read_description(path)


@given(st.dictionaries(NAME, PLAIN, max_size=4), st.integers(0, 2**53 - 1), st.none() | st.lists(NAME, max_size=2))
@settings(max_examples=60, deadline=None)
def test_what_a_session_publishes_is_read(tmp_path_factory, config, parameters, notes):
    told = {"config": config, "parameters": parameters} | ({} if notes is None else {"notes": notes})
    found = read(tmp_path_factory.getbasetemp(), json.dumps(told).encode())
    assert (found.config, found.parameters, found.notes) == (config, parameters, notes or [])


@given(JSON, JSON)
@settings(max_examples=200, deadline=None)
def test_any_values_in_the_right_frame_are_plain_or_refused(tmp_path_factory, config, parameters):
    try:
        found = read(tmp_path_factory.getbasetemp(), json.dumps({"config": config, "parameters": parameters}).encode())
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
        read(tmp_path, text.encode())


@pytest.mark.parametrize("make", ["link", "fifo", "folder", "missing"])
def test_what_is_no_file_is_refused(tmp_path, make):
    path = tmp_path / "description.json"
    if make == "link":
        path.symlink_to("/etc/hostname")
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "folder":
        path.mkdir()
    with pytest.raises(ValueError, match=r"description\.json"):
        read_description(path)
