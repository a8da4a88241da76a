"""Small texts, tokenizers and data sets for the tests of harness.data."""

import base64
from functools import cache
from io import BytesIO
from random import Random

import sentencepiece

from harness.data.build import build_dataset
from harness.data.tokenizers import SentencePieceTokenizer, train_bpe
from harness.progress import Reporter

SYLLABLES = "the ho use of re pre sen ta tives and se nate shall as sem ble at le ast on ce in eve ry ye ar".split()  # noqa: SIM905
UNSTABLE = "e\u0301 ﬁve ½ … \u00a0 \u200d 👩\u200d👩\u200d👧 日本語 \u2581 Ⅷ ＡＢＣ\t\n\n  x²"


def documents(count: int, start: int = 0) -> list[str]:
    """English-like documents, all different, with line feeds, digits and text that NFKC changes."""
    made = []
    for i in range(start, start + count):
        random = Random(i)
        words = ["".join(random.choices(SYLLABLES, k=random.randint(1, 3))) for _ in range(60 + i % 17)]
        tail = UNSTABLE if i % 3 == 0 else ""
        made.append(f"Address {i}.\n\n" + " ".join(words).capitalize() + tail + f" {i * i}.")
    return made


@cache
def trained() -> SentencePieceTokenizer:
    """A BPE of 320 pieces with the published settings."""
    lines = [line for text in documents(60) for line in text.splitlines() if line]
    return SentencePieceTokenizer(train_bpe(lines, 320), "small_bpe.model")


@cache
def model(words: bool = False, **options) -> SentencePieceTokenizer:
    """A small model with other settings than the published ones; of single ``words``, so that none has a space."""
    out = BytesIO()
    lines = [line for text in documents(40) for line in (text.split() if words else text.splitlines()) if line]
    settings = {"vocab_size": 330 if words else 320, "model_type": "bpe", "byte_fallback": True}
    settings |= {"hard_vocab_limit": False, "minloglevel": 2, "add_dummy_prefix": False}
    settings |= {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3} | options
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, **settings)
    return SentencePieceTokenizer(out.getvalue(), "test.model")


def ranks() -> bytes:
    """The file of a small tiktoken vocabulary."""
    tokens = [*(bytes([b]) for b in range(256)), b" t", b"th", b"the", b" the"]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def small_dataset(folder, *, tokenizer=None, val=None, train=None, shard_tokens=500):
    """Build a data set under ``folder`` and return the folder."""
    build_dataset(
        folder,
        name="small",
        validation=documents(8) if val is None else val,
        train=documents(30, 100) if train is None else train,
        tokenizer=tokenizer or trained(),
        source={},
        progress=Reporter(),
        shard_tokens=shard_tokens,
    )
    return folder
