"""The model file and the bundle as a hostile submission would write them."""

import os
import pickle
import tracemalloc

import pytest
from address_space import at_most_more
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import CouldNotCheck, RuleBroken
from harness.protocol.container import write_container
from harness.run.artifact import executable_kind, pack_code, read_model_file, unpack_code


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
    path = tmp_path / "model.bin"
    if make == "link":
        (tmp_path / "other").write_bytes(write_container(None, {"a": b"1"}, codec="none"))
        path.symlink_to(tmp_path / "other")
    elif make == "fifo":
        os.mkfifo(path)
    elif make == "folder":
        path.mkdir()
    with pytest.raises(RuleBroken) as caught:
        read(path)
    assert caught.value.rule == "A3-CONTAINER"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_is_named_at_every_protocol(protocol):
    assert executable_kind(pickle.dumps(ValueError("x"), protocol)) == "a pickle"


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6})?\.py", fullmatch=True), st.binary(max_size=100), max_size=4)
)
@settings(max_examples=15, deadline=None)
def test_the_bundle_unpacks_to_what_was_packed(tmp_path_factory, files):
    target = tmp_path_factory.mktemp("unpacked") / "code"
    target.mkdir()
    unpack_code(pack_code(files), target)
    assert {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()} == files


def test_files_that_contradict_each_other_end_in_a_message(tmp_path):
    bundle = write_container(None, {"a": b"1", "a/b": b"2"}, codec="none")
    with pytest.raises(CouldNotCheck, match="a/b"):
        unpack_code(bundle, tmp_path)
