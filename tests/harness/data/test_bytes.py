"""Every raw byte is accounted for once, whatever text and tokenizer; plain ``len(doc.encode())`` is the judge.

Case operators lose nothing, and carry the raw bytes of the source to the last one.
"""

import numpy as np
import pytest
import sentencepiece
from corpus import documents, model, ranks, small_dataset, trained
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.data import documents as encoding
from harness.data import load_validation, open_dataset
from harness.data.byte_table import compare_table, round_trip
from harness.data.tokenizers import (
    ByteTokenizer,
    CaseTokenizer,
    TiktokenTokenizer,
    apply_operators,
    raw_offsets,
    undo_operators,
)
from harness.progress import Reporter

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
AWKWARD = st.text("aé½ﬁ …\u00a0\t\n\u2581\u200d\u0301👩日\x00 ₂Å", max_size=40)


def tiktoken_small():
    pytest.importorskip("tiktoken")
    return TiktokenTokenizer(ranks(), "t.tiktoken")


TOKENIZERS = {
    "bpe": trained,
    "unigram": lambda: model(model_type="unigram"),
    "unigram without fallback": lambda: model(model_type="unigram", byte_fallback=False, vocab_size=200),
    "dummy prefix": lambda: model(add_dummy_prefix=True),
    "extra spaces kept": lambda: model(remove_extra_whitespaces=False),
    "identity": lambda: model(normalization_rule_name="identity"),
    "case folding": lambda: model(normalization_rule_name="nmt_nfkc_cf"),
    "suffix spaces": lambda: model(treat_whitespace_as_suffix=True),
    "byte260": ByteTokenizer,
    "tiktoken": tiktoken_small,
    "case operators": lambda: CaseTokenizer(trained()),
}


@pytest.mark.rule("A7-BYTES")
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a7_tokens_of_any_text_account_for_each_raw_byte_once(name):
    tokenizer = TOKENIZERS[name]()

    @settings(max_examples=60, deadline=None)
    @given(TEXT | AWKWARD)
    @example("")
    @example("  \n lead and trail \u00a0\n")
    @example("\x00")
    @example("👩\u200d👩\u200d👧 e\u0301 ½ ﬁ Ⅷ …")
    def holds(text):
        (ids, sizes), *_ = tokenizer.encode([text])
        assert len(ids) == len(sizes)
        assert (sizes >= 0).all()
        assert int(sizes.sum()) == (len(text.encode()) if len(ids) else 0)

    holds()


@pytest.mark.slow
def test_a_ten_megabyte_document_through_a_trained_tokenizer():
    text = "\n".join(documents(300)) * 60
    ids, sizes = trained().encode([text[:10_000_000]])[0]
    assert len(ids) > 1_000_000
    assert int(sizes.sum()) == len(text[:10_000_000].encode())


def test_a_token_may_account_for_more_than_65535_bytes(tmp_path):
    texts = [*documents(3), "start" + " " * 200_000 + "end"]
    dataset = open_dataset(str(small_dataset(tmp_path / "s", val=texts)), tmp_path, Reporter())
    sizes = load_validation(dataset).target_bytes
    assert int(sizes.sum()) == sum(len(t.encode()) for t in texts)
    assert int(sizes.max()) >= 200_000


@pytest.mark.parametrize("shard_tokens", [2, 3, 7, 61, 10_000])
def test_shards_cut_at_any_boundary_hold_the_same_stream(tmp_path, shard_tokens):
    texts = ["", "½ the  house\n", "\n" * 3, "x", "日本 of"]
    dataset = open_dataset(
        str(small_dataset(tmp_path / "s", val=texts, train=["the senate"], shard_tokens=shard_tokens)),
        tmp_path,
        Reporter(),
    )
    validation = load_validation(dataset)
    wanted = np.concatenate([np.concatenate(([1], ids)) for ids, _ in trained().encode(texts)])
    assert validation.tokens.tolist() == wanted.tolist()
    assert dataset.val_documents == len(texts)
    assert int(validation.target_bytes.sum()) == sum(len(t.encode()) for t in texts)


def test_offsets_agree_with_the_surfaces_that_the_encoder_reports():
    """An independent way to the same cuts, at every place where a character is not split between tokens."""
    tokenizer = trained()
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.file)
    for text in documents(12):
        _, sizes = tokenizer.encode([text])[0]
        ends = np.cumsum(sizes)
        pieces = processor.encode(text.encode(), return_type="proto").pieces
        plain = [p.surface.isascii() and p.end > p.begin and not processor.is_byte(p.id) for p in pieces]
        places = [i for i in range(len(pieces) - 1) if plain[i] and plain[i + 1]]
        assert len(places) > 20
        assert [int(ends[i]) for i in places] == [pieces[i].end for i in places]


def test_unchanged_characters_in_fallback_pieces_weigh_one_byte_each():
    _, sizes = trained().encode(["漢字"])[0]
    assert sizes.tolist() == [1] * 6


@pytest.mark.parametrize("with_raw", [True, False])
def test_every_difference_between_table_and_ledger_has_a_cause(tmp_path, with_raw):
    texts = [*documents(7), "  lead\n\n two  spaces ½ … ﬁ \u00a0\u00a0 end  ", "日本"]
    dataset = open_dataset(str(small_dataset(tmp_path / "s", val=texts)), tmp_path, Reporter())
    validation = load_validation(dataset)
    raw = "".join(texts).encode() if with_raw else None
    for window in (0, 64):
        found = compare_table(validation.tokens, validation.target_bytes, trained(), raw, window=window)
        assert found.table_bytes - found.exact_bytes == sum(d.bytes for d in found.differences)
        assert found.exact_bytes == dataset.val_bytes
    by_cause = {d.cause: d for d in found.differences}
    assert by_cause["tail"].bytes < 0
    assert by_cause["tail"].targets == (len(validation.tokens) - 1) % 64
    assert by_cause["space handling"].bytes < 0
    assert by_cause["normalisation"].targets > 0


def test_clean_text_needs_no_cause():
    ids, sizes = trained().encode(["the house of the senate"])[0]
    tokens = np.concatenate(([1], ids))
    found = compare_table(tokens, sizes, trained(), b"the house of the senate")
    assert found.table_bytes == found.exact_bytes == 23
    assert all(d.targets == d.bytes == 0 for d in found.differences)


def test_round_trips_are_lossless_normalised_or_lossy():
    clean, odd = ["the house", "a b"], ["the house", "e\u0301 … ½"]
    assert round_trip(clean, trained()).verdict == "PASS"
    assert round_trip(odd, ByteTokenizer()).verdict == "PASS"
    finding = round_trip(odd, trained())
    assert (finding.verdict, finding.where) == ("WARN", "document 1, byte 0")
    finding = round_trip(["the", "The House"], TOKENIZERS["case folding"]())
    assert (finding.verdict, finding.where) == ("FAIL", "document 1, byte 0")
    assert "case is folded" in finding.message
    assert round_trip(["The House OF"], CaseTokenizer(trained())).verdict == "PASS"


def test_documents_come_encoded_in_their_order_however_they_are_batched(monkeypatch):
    texts = ["", *documents(30), "½ the  house\n", ""]
    wanted = [(ids.tolist(), sizes.tolist()) for ids, sizes in trained().encode(texts)]
    for characters in (1, 500, 10**9):
        monkeypatch.setattr(encoding, "BATCH_CHARACTERS", characters)
        found = list(encoding.encode_documents(iter(texts), trained()))
        assert [text for text, _ in found] == texts
        assert [(ids.tolist(), sizes.tolist()) for _, (ids, sizes) in found] == wanted


CASED = st.text(st.characters(exclude_categories=["Cs"])) | st.text("aAbBßİıǅÉé \ue001\ue002\ue003\ue0041Σς")


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("Hello WORLD iPhone", "\ue001hello \ue002world i\ue003phone"),
        ("A b", "\ue001a b"),
        ("x\ue001y", "x\ue004\ue001y"),
        ("NASA2 USA-led", "\ue002nasa2 \ue002usa-led"),
    ],
)
def test_the_written_form(source, written):
    assert apply_operators(source) == written


@settings(max_examples=300)
@given(CASED)
@example("İSTANBUL ẞ ǅ \ue004\ue004A")
def test_every_text_comes_back(text):
    assert undo_operators(apply_operators(text)) == text


@settings(max_examples=300)
@given(CASED)
@example("\ue004\ue004\ue001\ue001Ab")
def test_offsets_never_fall_and_end_at_the_raw_size(text):
    written = apply_operators(text)
    offsets = raw_offsets(text, written)
    assert len(offsets) == len(written.encode()) + 1
    assert (np.diff(offsets) >= 0).all()
    assert (offsets[0], offsets[-1]) == (0, len(text.encode()))


def test_operators_account_for_no_byte():
    ids, sizes = CaseTokenizer(ByteTokenizer()).encode(["Ab"])[0]
    assert bytes((ids - 4).astype(np.uint8)).decode() == "\ue001ab"
    assert sizes.tolist() == [0, 0, 0, 1, 1]
    text = documents(1)[0]
    assert CaseTokenizer(ByteTokenizer()).decode(CaseTokenizer(ByteTokenizer()).encode([text])[0][0]).decode() == text
