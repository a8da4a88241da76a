"""Small texts, tokenizers and data sets for the tests of harness.data."""

from functools import cache
from random import Random

from harness.data.build import build_dataset
from harness.data.tokenizers import SentencePieceTokenizer, train_bpe
from harness.progress import Silent

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


def small_dataset(folder, *, tokenizer=None, val=None, train=None, shard_tokens=500):
    """Build a data set under ``folder`` and return the folder."""
    build_dataset(
        folder,
        name="small",
        validation=documents(8) if val is None else val,
        train=documents(30, 100) if train is None else train,
        tokenizer=tokenizer or trained(),
        source={},
        progress=Silent(),
        shard_tokens=shard_tokens,
    )
    return folder
