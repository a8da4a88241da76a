"""``submission.toml``: what a submission says about itself."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from harness.config.variables import COMMAND_VARIABLES, GIVEN_TO_MAKE
from harness.errors import RuleBroken, UsageError
from harness.protocol.environment import misspelt
from harness.text import printable

MANIFEST_FILE = "submission.toml"
MAX_SETTINGS_BYTES = 4096  # a configuration of 80 variables takes a third of it; model data would need far more
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
CONSENT = "GOLF_ACCEPT"
PRIVATE = tomllib.loads(Path(__file__).with_name("private.toml").read_text("utf-8"))
_RESERVED, _RESERVED_PREFIXES = frozenset(PRIVATE["names"]), tuple(PRIVATE["beginnings"])
_SECRET_NAME, _SECRET_VALUE = (re.compile("|".join(PRIVATE[kind])) for kind in ("secret_names", "secret_values"))
_NUMBER = re.compile(r"[+-]?\d{0,12}\.?\d{0,20}([eE][+-]?\d{1,3})?")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


class EntryModules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The module of each phase, inside the package ``submission``."""

    describe: str
    train: str
    package: str
    eval: str


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``accept``: names of the environment variables that reach the submission.

    namespace: beginnings of names that are the submission's own. A variable that starts so and is not accepted is
    refused by name, like one that differs from an accepted name by a letter or two: a typing error stops the run
    hints: names that are not accepted, such as those of another script → what to do instead, in a few words
    """

    accept: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    hints: dict[str, str] = {}


class SubmissionManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    eval_ranks: processes of an evaluation: one, or as many as the track has GPUs
    compile_cache: tracks on which one cell compiles for all cells of the evaluation; "gpu": those with GPUs
    packages: installed distributions that evaluation imports beside torch, numpy and triton; it can read no others
    """

    name: str
    entry: EntryModules
    env: Environment = Environment()
    eval_ranks: Literal["one", "all"] = "one"
    compile_cache: Literal["never", "gpu", "always"] = "never"
    packages: tuple[str, ...] = ()


def read_manifest(files: Mapping[str, bytes], where: str) -> SubmissionManifest:
    """The manifest among a submission's ``files``. Raises ``UsageError`` that names the field."""
    if MANIFEST_FILE not in files:
        raise UsageError(f"{where} has no {MANIFEST_FILE}.", remedy="`harness new FOLDER` writes a minimal submission.")
    where = f"{where}/{MANIFEST_FILE}"
    try:
        manifest = msgspec.toml.decode(files[MANIFEST_FILE], type=SubmissionManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: {error}.", remedy="See harness/protocol/README.md.") from error
    if not 1 <= len(manifest.name) <= 80 or not manifest.name.isprintable():
        raise UsageError(f"{where}: name must be 1 to 80 printable characters.", remedy='Set name = "…" at its head.')
    for phase, module in msgspec.structs.asdict(manifest.entry).items():
        said, path = f"{where}: [entry] {phase} = {module[:80]!r}", module.replace(".", "/")
        if not _MODULE.fullmatch(module):
            remedy = "Name a module of the folder without .py, such as train_entry."
            raise UsageError(f"{said} is not a module name.", remedy=remedy)
        if f"{path}.py" not in files and f"{path}/__main__.py" not in files:
            text = f"{said}, but {path}.py is not in the folder."
            raise UsageError(text, remedy="Add the file, or correct the entry.")
    for name in manifest.env.accept:
        theirs = name in _RESERVED or name.startswith(_RESERVED_PREFIXES) or _SECRET_NAME.search(name)
        if theirs or not _VARIABLE.fullmatch(name):
            words = f"{where}: [env] accept names {name[:80]!r}, which is reserved or malformed."
            raise UsageError(words, remedy="Use upper-case names of the submission's own settings.")
    return manifest


def accepted_variables(manifest: SubmissionManifest, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``environ`` that reach the submission, in every phase.

    Raises ``RuleBroken`` A3-NO-UNCOUNTED-CODE where they hold more than settings: what evaluation needs is in the
    counted files, and no cap sees a variable.
    """
    found = {name: environ[name] for name in manifest.env.accept if name in environ}
    if (size := settings_bytes(found)) > MAX_SETTINGS_BYTES:
        largest = max(found, key=lambda name: len(os.fsencode(found[name])))
        raise RuleBroken(
            "A3-NO-UNCOUNTED-CODE",
            f"the variables that {manifest.name} accepts hold {size:,} bytes, names and values; {MAX_SETTINGS_BYTES:,} "
            f"at most. The largest is {largest}.",
            remedy="Keep data in the model file, and settings in the submission's own files.",
        )
    return found


def settings_bytes(variables: Mapping[str, str]) -> int:
    """Names and values together."""
    return sum(len(os.fsencode(name)) + len(os.fsencode(value)) for name, value in variables.items())


def check_variables(manifest: SubmissionManifest, environ: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Refuse variables that the submission does not know but seems to be meant by. Raises ``UsageError`` naming each.

    Meant are names of its namespace and hints, and names that differ from an accepted one by a letter or two. Raises
    ``RuleBroken`` for accepted ones that hold too much, and ``UsageError`` for those that may be the user's own affair:
    a manifest is a stranger's, and what it accepts can end up in a signed record. A setting is a number, a word that
    stands in the submission's own ``files`` (the counted ones), or a list of these; or anything that does not look like
    a secret under the submission's own prefix, its name in capitals, or with the user's consent.
    """
    prefix = re.sub(r"[^A-Z0-9]+", "_", manifest.name.upper()).strip("_") + "_"
    for name, value in accepted_variables(manifest, environ).items():
        secret, taken = _SECRET_VALUE.search(value), name in environ.get(CONSENT, "").split() or name.startswith(prefix)
        if secret or not (taken or all(_is_setting(word, files) for word in re.split(r"[\s,]+", value))):
            unknown = "is neither a number nor a word of the submission's own files"
            problem = "looks like a secret, which never goes to a submission" if secret else unknown
            text = f"{manifest.name} accepts the variable {name}, and its value here {problem}."
            consent = "" if secret else f", or hand it over knowingly: {CONSENT}={name}"
            raise UsageError(text, remedy=f"Correct or unset it{consent}.")
    unread = environ.get(GIVEN_TO_MAKE, "").split()
    known = [*(name for name in COMMAND_VARIABLES if name not in unread), *manifest.env.accept]
    if found := misspelt(environ, known, (*manifest.env.namespace, *unread), manifest.env.hints):
        hints = [f"{name} ({printable(help)})" if help else name for name, help in found.items()]
        text = f"neither {manifest.name} nor this command reads a variable {', '.join(hints)}."
        remedy = "Unset it, or correct its name: [env] accept in the submission's submission.toml lists its own."
        raise UsageError(text, remedy=remedy + " A variable for another program goes before make." * bool(unread))


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's name or value looks like a secret's, which no record may show."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def _is_setting(word: str, files: Mapping[str, bytes]) -> bool:
    if not word or _NUMBER.fullmatch(word) or word.lower() in ("true", "false", "none"):
        return True
    text = rb"(?<![A-Za-z0-9_.-])" + re.escape(os.fsencode(word)) + rb"(?![A-Za-z0-9_-])"
    return _WORD.fullmatch(word) is not None and any(re.search(text, data, re.IGNORECASE) for data in files.values())
