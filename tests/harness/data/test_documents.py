"""Documents come in order from every form of file; what is no document is named by file and line."""

import gzip
import json
import lzma

import pytest

from harness.data import documents as encoding
from harness.data.documents import Documents, encode_documents
from harness.data.tokenizers import ByteTokenizer
from harness.errors import CouldNotCheck, UsageError

TEXTS = ["one", "", "two\nlines", "NUL \x00 and 👩\u200d👩\u200d👧", "e\u0301"]


def json_lines(texts):
    return "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)).encode()


@pytest.mark.parametrize(
    ("name", "pack"), [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.xz", lzma.compress)]
)
def test_packed_and_plain_json_lines_give_the_same_documents(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(json_lines(TEXTS)))
    documents = Documents([tmp_path / name])
    assert list(documents) == list(documents) == TEXTS
    assert documents.position == documents.size


def test_a_folder_gives_its_files_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "notes.md").write_text("no")
    assert list(Documents([tmp_path])) == ["first", "second"]
    (tmp_path / "b" / "x.jsonl").write_bytes(json_lines(["third"]))
    assert list(Documents([tmp_path])) == ["third"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "ok"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"txt": "ok"}\n', "line 1 has no text under 'text'"),
        ("a.jsonl", b"[1]\n", "line 1 has no text"),
        ("a.jsonl", b'{"text": "a\\ud800b"}\n', r"line 1: .*lone surrogate \(U\+D800 at character 1\)"),
        ("a.jsonl", b"\n", "line 1 is not JSON"),
        ("a.jsonl", b'{"text": "\xff"}\n', "line 1 is not JSON"),
        ("a.jsonl.xz", lzma.compress(json_lines(TEXTS))[:-9], "damaged or cut"),
        ("a.jsonl.gz", gzip.compress(json_lines(TEXTS))[:-9], "damaged or cut"),
        ("a.jsonl.gz", b"plain", "damaged or cut"),
        ("a.txt", b"caf\xe9", r"a\.txt is not UTF-8 \(byte 3\)"),
    ],
)
def test_what_is_no_document_is_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CouldNotCheck, match=says):
        list(Documents([tmp_path / name]))


@pytest.mark.parametrize(("name", "where"), [("a.jsonl.xz", r"a\.jsonl\.xz, line 2"), ("a.txt", r"a\.txt")])
def test_a_document_that_is_too_long_is_named_and_one_at_the_limit_is_read(tmp_path, monkeypatch, name, where):
    monkeypatch.setattr(encoding, "MOST_DOCUMENT_BYTES", 100)
    line, pack = json_lines(["x"]).strip().ljust(99) + b"\n", lzma.compress if name.endswith(".xz") else bytes
    (tmp_path / name).write_bytes(pack(line))
    assert len(list(Documents([tmp_path / name]))) == 1
    (tmp_path / name).write_bytes(pack(line + b"\0" * 101))
    with pytest.raises(CouldNotCheck, match=where + " is longer than a document may be"):
        list(Documents([tmp_path / name]))


def test_a_missing_source_and_an_empty_folder_are_usage_errors(tmp_path):
    for source in (tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(UsageError, match=source.name):
            Documents([source])


class PanicException(BaseException):
    """As Rust's bindings name it."""


@pytest.mark.parametrize("trouble", [PanicException("StackOverflow"), RuntimeError("StackOverflow")])
@pytest.mark.parametrize("batch", [1, 10**6])
def test_an_encoder_that_breaks_names_the_document(trouble: BaseException, batch: int, monkeypatch):
    class Fragile(ByteTokenizer):
        def encode(self, texts):
            if any(" " * 1000 in text for text in texts):
                raise trouble
            return super().encode(texts)

    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", batch)
    encoded = encode_documents(["a", "b", " " * 1000 + "x", "c"], Fragile())
    if batch == 1:  # the documents before it come first
        assert [next(encoded)[0], next(encoded)[0]] == ["a", "b"]
    with pytest.raises(CouldNotCheck, match=r"breaks on document 2 \(1,001 characters.*StackOverflow"):
        list(encoded)


def test_a_tokenizer_that_loses_bytes_is_named():
    class Lossy(ByteTokenizer):
        def encode(self, texts):
            return [(ids[1:], sizes[1:]) for ids, sizes in super().encode(texts)]

    with pytest.raises(CouldNotCheck, match="tokens of document 8 account for 2 of its 3 bytes"):
        list(encode_documents(["abc"], Lossy(), first=8))
