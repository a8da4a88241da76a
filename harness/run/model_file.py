"""Judges a model file without running anything in it [A3-CONTAINER].

Covered: size before reading, the container's own bounds (sizes, names, digest, bombs), sections that are pickles,
archives, native binaries, byte code or Python source.
Not covered: numbers that a submission's own code interprets as instructions. They are counted like every other byte.
"""

from __future__ import annotations

import ast
import os
import pickletools
import re
import stat
from pathlib import Path

from harness.errors import RuleBroken
from harness.protocol.container import ContainerError, read_container

RULE = "A3-CONTAINER"
_REMEDY = "Write the model with harness.protocol.container; keep code in the submission's folder, where it is counted."
_SOURCE_LIMIT_BYTES = 1_000_000
_GAP = r"(?:[ \t\f]|\\\r?\n)*+"
_CHAIN = re.compile(rf"(?:\.{_GAP}\w++{_GAP}){{200}}")
_MAGIC_NUMBERS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "a native binary (ELF)"),
    (b"\xcf\xfa\xed\xfe", "a native binary (Mach-O)"),
    (b"PK\x03\x04", "a ZIP archive, as torch.save writes it"),
    (b"\x00asm", "a WebAssembly module"),
    (b"#!/", "a script"),
)
_TELLING_OPCODES = frozenset(
    {"PROTO", "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
)


def read_model_file(path: Path, *, max_bytes: int, max_unpacked_bytes: int) -> bytes:
    """The bytes of the model file, when it is a sound container. Raises ``RuleBroken`` (A3-CONTAINER) otherwise.

    max_bytes bounds what is read; a larger file is left to the count of bytes, so give it room beyond the cap.
    """
    data = _read_bounded(path, max_bytes)
    try:
        sections = read_container(data, max_unpacked_bytes=max_unpacked_bytes)
    except ContainerError as error:
        raise RuleBroken(RULE, f"{path.name} is no sound container: {error}", remedy=_REMEDY) from error
    for name, section in sections.items():
        kind = executable_kind(section)
        if kind:
            raise RuleBroken(RULE, f"section {name!r} of {path.name} is {kind}.", remedy=_REMEDY)
    return data


def executable_kind(section: bytes) -> str:
    """What kind of executable content ``section`` is, in words; empty for plain data."""
    for magic, words in _MAGIC_NUMBERS:
        if section.startswith(magic):
            return words
    if section[:2] == b"MZ" and b"PE\0\0" in section[:1024]:
        return "a native binary (PE)"
    if len(section) > 16 and section[2:4] == b"\r\n" and section[4:8] == bytes(4):
        return "Python byte code"
    if _is_pickle(section):
        return "a pickle"
    return "Python source" if _is_python(section) else ""


def _is_pickle(section: bytes) -> bool:
    """Whether the bytes are a whole pickle that names itself one or calls something; nothing is executed."""
    telling = False
    try:
        for opcode, _, _ in pickletools.genops(section):
            telling = telling or opcode.name in _TELLING_OPCODES
    except Exception:  # genops raises many kinds for bytes that are no pickle
        return False
    return telling


def _is_python(section: bytes) -> bool:
    """Whether the text parses as a program that defines or imports something; plain numbers and words do not.

    A dotted name of 200 parts and more is no program's: the parser keeps every beginning of one that is imported, so
    that the memory of `import a.a.a…` grows with the square of its length.
    """
    if not 0 < len(section) <= _SOURCE_LIMIT_BYTES or b"\0" in section:
        return False
    try:
        text = section.decode("utf-8")
        if _CHAIN.search(text):
            return False
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    telling = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Call, ast.Lambda)
    return any(isinstance(node, telling) for node in ast.walk(tree))


def _read_bounded(path: Path, max_bytes: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise RuleBroken(
            RULE, f"the package phase left no readable {path.name} ({error.strerror}).", remedy=_REMEDY
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RuleBroken(RULE, f"{path.name} is no regular file.", remedy=_REMEDY)
    with os.fdopen(fd, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise RuleBroken(
            "A3-ARTIFACT-BYTES", f"{path.name} is over {max_bytes:,} bytes.", remedy="Prune more, or compress better."
        )
    return data
