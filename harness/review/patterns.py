"""The tables of ``patterns.toml``, compiled: methods, code worth a look, lines of logs, fields and figures."""

import re
from importlib import resources

import msgspec

_NAMES = {
    "<NUM>": r"<TIME>(?![0-9.])",
    "<TIME>": r"(-?(?:[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][-+]?[0-9]{1,3})?|nan|inf))",
    "<TAGS>": r"(?:(?!val_)\w{1,30}[:=][\w.]{1,30} ){0,4}(?P<how>sliding )?",
    "<BEHIND>": r"(?=\s*(?:[(±+/&]|over\b|of\b|across\b|$))",
    "<P>": r"\bp(?:[- ]?value)?(?P<op>\W{1,6}?)(?P<p>(?:0?\.\d{1,12}|\d(?:\.\d{1,9})?(?=e))(?:e[-\u2212]\d{1,2})?)",
    "<N>": r"(?P<n>\d{1,18})",
    "<TARGET>": r"\b(?:\w+_)?(?:y|tgts?|targets?|gold|labels?|y_true|next_tok(?:en)?s?)(?:_\w+)?\b",
    "<GATE>": r"(?:\w+_)?(?:alpha|gate|lam|lambda_|mix(?:ing)?_?(?:w|weights?)?|blend\w*|tilt)",
}


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

    lines: tuple[tuple[str, str, re.Pattern[str]], ...]
    methods: tuple[Method, ...]
    code: tuple[Statement, ...]
    fields: dict[str, tuple[str, ...]]
    figures: dict[str, re.Pattern[str]]
    facts: dict[str, re.Pattern[str]]
    switches: dict[str, re.Pattern[str]]
    stages: dict[str, re.Pattern[str]]
    words: dict[str, re.Pattern[str]]
    aggregates: dict[str, re.Pattern[str]]
    columns: dict[str, re.Pattern[str]]


def _compiled(_: type, value: str | list[str]) -> re.Pattern[str]:
    text = "".join(value)
    for name, pattern in _NAMES.items():
        text = text.replace(name, pattern)
    return re.compile(text)


PATTERNS: Tables = msgspec.toml.decode(
    (resources.files(__package__) / "patterns.toml").read_bytes(), type=Tables, dec_hook=_compiled
)
WORDS = PATTERNS.words
