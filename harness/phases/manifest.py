"""``submission.toml``: what a submission says about itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from harness.config.environment import COMMAND_VARIABLES
from harness.errors import RuleBroken, UsageError
from harness.protocol.environment import misspelt

MANIFEST_FILE = "submission.toml"
MAX_SETTINGS_BYTES = 4096  # a configuration of 80 variables takes a third of it; model data would need far more
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_RESERVED = frozenset(
    {"PATH", "HOME", "TMPDIR", "LANG", "SEED", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    | {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "IFS", "ENV", "BASH_ENV", "SHELL", "USER"}
)
_RESERVED_PREFIXES = ("GOLF_", "LD_", "PYTHON", "GLIBC_", "MALLOC_", "CUDA_VISIBLE", "NVIDIA_")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The module of each phase, inside the package ``submission``."""

    describe: str
    train: str
    package: str
    eval: str


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``accept``: names of the environment variables that reach the submission.

    namespace: beginnings of names that are the submission's own. A variable that starts so and is not accepted is
    refused by name, like one that differs from an accepted name by a letter or two: a typing error stops the run
    """

    accept: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    eval_ranks: processes of an evaluation: one, or as many as the track has GPUs
    compile_cache: tracks on which one cell compiles for all cells of the evaluation; "gpu": those with GPUs
    """

    name: str
    entry: Entry
    env: Environment = Environment()
    eval_ranks: Literal["one", "all"] = "one"
    compile_cache: Literal["never", "gpu", "always"] = "never"


def read_manifest(files: Mapping[str, bytes], where: str) -> Manifest:
    """The manifest among a submission's ``files``. Raises ``UsageError`` that names the field."""
    if MANIFEST_FILE not in files:
        raise UsageError(f"{where} has no {MANIFEST_FILE}.", remedy="`harness new FOLDER` writes a minimal submission.")
    try:
        manifest = msgspec.toml.decode(files[MANIFEST_FILE], type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}/{MANIFEST_FILE}: {error}.", remedy="See harness/protocol/README.md.") from error
    if not 1 <= len(manifest.name) <= 80 or not manifest.name.isprintable():
        raise UsageError(
            f"{where}/{MANIFEST_FILE}: name must be 1 to 80 printable characters.", remedy='Set name = "…" at its head.'
        )
    for phase, module in msgspec.structs.asdict(manifest.entry).items():
        _check_module(files, where, phase, module)
    for name in manifest.env.accept:
        if not _VARIABLE.fullmatch(name) or name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
            raise UsageError(
                f"{where}/{MANIFEST_FILE}: [env] accept names {name[:80]!r}, which is reserved or malformed.",
                remedy="Use upper-case names of the submission's own settings.",
            )
    return manifest


def accepted_variables(manifest: Manifest, environ: Mapping[str, str]) -> dict[str, str]:
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


def check_variables(manifest: Manifest, environ: Mapping[str, str]) -> None:
    """Refuse variables that the submission does not know but seems to be meant by. Raises ``UsageError`` naming each.

    Meant are names of its namespace, and names that differ from an accepted one by a letter or two. Raises
    ``RuleBroken`` for accepted ones that hold too much.
    """
    accepted_variables(manifest, environ)
    found = misspelt(environ, (*COMMAND_VARIABLES, *manifest.env.accept), manifest.env.namespace)
    hints = [f"{name} (did you mean {meant}?)" if meant else name for name, meant in found.items()]
    if hints:
        raise UsageError(
            f"neither {manifest.name} nor the referee knows a variable {', '.join(hints)}.",
            remedy="Unset it, or correct its name: [env] accept in the submission's submission.toml lists its own.",
        )


def _check_module(files: Mapping[str, bytes], where: str, phase: str, module: str) -> None:
    if not _MODULE.fullmatch(module):
        raise UsageError(
            f"{where}/{MANIFEST_FILE}: [entry] {phase} = {module[:80]!r} is no module name.",
            remedy="Name a module of the folder without .py, such as train_entry.",
        )
    path = module.replace(".", "/")
    if f"{path}.py" not in files and f"{path}/__main__.py" not in files:
        raise UsageError(
            f"{where}/{MANIFEST_FILE}: [entry] {phase} = {module!r}, but {path}.py is not in the folder.",
            remedy="Add the file, or correct the entry.",
        )
