"""Case operators lose nothing, and carry the raw bytes of the source to the last one."""

import numpy as np
import pytest
from corpus import documents
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.data.tokenizers import ByteTokenizer, CaseTokenizer, apply_operators, raw_offsets, undo_operators

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text("aAbBßİıǅÉé \ue001\ue002\ue003\ue0041Σς")


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
@given(TEXT)
@example("İSTANBUL ẞ ǅ \ue004\ue004A")
def test_every_text_comes_back(text):
    assert undo_operators(apply_operators(text)) == text


@settings(max_examples=300)
@given(TEXT)
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
