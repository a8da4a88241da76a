"""The tables of ``patterns.toml``, compiled: methods, code worth a look, lines of logs, fields and figures."""

import re
from importlib import resources

import msgspec

_SOURCE = msgspec.toml.decode((resources.files(__package__) / "patterns.toml").read_bytes())


class Method(msgspec.Struct, frozen=True):
    """A way to train or score, as texts and lines of logs name it."""

    rule: str
    what: str
    words: re.Pattern[str] | None = None
    log: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    given: re.Pattern[str] | None = None
    beside: str = ""
    banned: bool = False
    anywhere: bool = False


class Statement(msgspec.Struct, frozen=True):
    """A statement that a reviewer should see."""

    rule: str
    what: str
    remedy: str
    pattern: re.Pattern[str]


class Tables(msgspec.Struct, frozen=True):
    """All of them, as the file's comments describe them."""

    blocking: tuple[str, ...]
    units: dict[str, tuple[str, float]]
    lines: tuple[tuple[str, str, re.Pattern[str]], ...]
    methods: tuple[Method, ...]
    code: tuple[Statement, ...]
    fields: dict[str, tuple[str, ...]]
    places: dict[str, tuple[str, ...]]
    elsewhere: dict[str, re.Pattern[str]]
    figures: dict[str, re.Pattern[str]]
    facts: dict[str, re.Pattern[str]]
    stated: dict[str, re.Pattern[str]]
    switches: dict[str, re.Pattern[str]]
    stages: dict[str, re.Pattern[str]]
    words: dict[str, re.Pattern[str]]
    aggregates: dict[str, re.Pattern[str]]
    columns: dict[str, re.Pattern[str]]
    records: dict[str, tuple[float, str]]


def _compiled(_: type, value: str | list[str]) -> re.Pattern[str]:
    text = "".join(value)
    for name, pattern in _SOURCE["names"].items():
        text = text.replace(f"<{name}>", pattern)
    return re.compile(text)


PATTERNS = msgspec.convert(_SOURCE, Tables, dec_hook=_compiled)
WORDS = PATTERNS.words


def first_of(table: dict[str, re.Pattern[str]], text: str) -> str:
    """The name of the first pattern of a table that the text holds; empty where none does."""
    return next((name for name, pattern in table.items() if pattern.search(text)), "")
