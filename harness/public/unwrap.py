"""Self-extracting scripts, unwrapped without running them: ``exec`` of compressed text, within bounds.

Understood: constants, names bound to them, ``import x as y``, ``__import__``, base64 and base85, hex, LZMA (also raw),
zlib, gzip, bz2, ``.decode()``, ``compile`` and ``exec(open("file").read())``. Anything else is reported as opaque.
"""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

MAX_OUTPUT = 4 << 20
MAX_LAYERS = 4
MAX_DICTIONARY = 64 << 20
MEMORY = 160 << 20
MAX_NODES = 20_000
MAX_WORK = 64 << 20
"""Bytes and characters that evaluating one script may produce, all layers together."""
DECODERS: dict[str, Callable[[Any], bytes]] = {
    "base64.b85decode": base64.b85decode,
    "base64.b64decode": base64.b64decode,
    "base64.standard_b64decode": base64.b64decode,
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "base64.b32decode": base64.b32decode,
    "base64.a85decode": base64.a85decode,
    "binascii.a2b_base64": binascii.a2b_base64,
    "binascii.unhexlify": binascii.unhexlify,
    "bytes.fromhex": bytes.fromhex,
}
LZMA_NAMES = {
    name: getattr(lzma, name) for name in dir(lzma) if name.startswith(("FORMAT_", "FILTER_", "CHECK_", "PRESET_"))
}


class OpaqueError(Exception):
    """What ``exec`` runs can't be told from the text; the message says why."""


@dataclass
class Unwrapped:
    """A script's innermost source. ``executes`` names files that it runs; ``opaque`` says what could not be told."""

    source: str
    tree: ast.Module | None
    layers: int = 0
    executes: list[str] = field(default_factory=list)
    opaque: str = ""
    line: int = 0

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the innermost source, gathered once."""
        return [] if self.tree is None else list(ast.walk(self.tree))


def parse(source: str) -> ast.Module:
    """The syntax tree. Raises :class:`OpaqueError` for what Python would refuse or what nests without end."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise OpaqueError(f"not parseable Python: {str(error)[:120] or type(error).__name__}") from error


@dataclass
class _Budget:
    """What is left for all layers of one script: expressions, and bytes that they produce."""

    late: Callable[[], bool]
    nodes: int = MAX_NODES
    work: int = MAX_WORK

    def spend(self, *, work: int = 0) -> None:
        """One expression. Raises :class:`OpaqueError` when nodes, bytes or time are used up."""
        self.nodes -= 1
        self.work -= work
        if self.nodes < 0 or self.work < 0:
            raise OpaqueError("the expression grows beyond bounds when it is evaluated")
        if self.nodes % 64 == 0 and self.late():
            raise OpaqueError("the folder's time is used up")


def unwrap(source: str, late: Callable[[], bool] = lambda: False) -> Unwrapped:
    """Follow ``exec`` shims to the innermost source. Never raises and never runs anything.

    late: whether the time for the folder is used up; asked again and again
    """
    found = Unwrapped(source, None)
    budget = _Budget(late)
    try:
        found.tree = parse(source)
        while (inner := _inner(found, budget)) is not None:
            if found.layers == MAX_LAYERS:
                raise OpaqueError(f"more than {MAX_LAYERS} layers of exec")
            found.source, found.tree = inner, parse(inner)
            found.layers += 1
    except OpaqueError as error:
        found.opaque = str(error)
    except RecursionError:
        found.opaque = "the expression nests too deeply"
    return found


def _inner(found: Unwrapped, budget: _Budget) -> str | None:
    assert found.tree is not None
    scope = _Scope(budget)
    for statement in found.tree.body:
        scope.learn(statement)
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id in ("exec", "eval")
            and call.args
        ):
            continue
        found.line = statement.lineno
        argument = call.args[0]
        if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) and argument.func.id == "compile":
            argument = argument.args[0]
        name = _opened(argument)
        if name:
            found.executes.append(name)
            continue
        value = scope.value(argument)
        if not isinstance(value, str | bytes):
            raise OpaqueError("exec of something that is no text")
        if len(value) > MAX_OUTPUT:
            raise OpaqueError(f"exec of more than {MAX_OUTPUT:,} characters")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return None


def _opened(node: ast.expr) -> str:
    """The literal file name of ``open("x").read()`` or ``Path("x").read_text()`` anywhere in ``node``."""
    for item in ast.walk(node):
        if isinstance(item, ast.Call) and item.args and isinstance(item.args[0], ast.Constant):
            name = item.func.id if isinstance(item.func, ast.Name) else getattr(item.func, "attr", "")
            if name in ("open", "Path") and isinstance(item.args[0].value, str):
                return item.args[0].value
    return ""


class _Scope:
    """Names of the module so far: constants and imported modules."""

    def __init__(self, budget: _Budget) -> None:
        self.budget = budget
        self.modules: dict[str, str] = {}
        self.nodes: dict[str, ast.expr] = {}
        self.depth = 0

    def learn(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self.modules[alias.asname or alias.name.split(".")[0]] = alias.name
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                self.modules[alias.asname or alias.name] = f"{statement.module}.{alias.name}"
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                self.nodes[target.id] = statement.value

    def value(self, node: ast.expr) -> Any:
        self.depth += 1
        try:
            if self.depth > 40:
                raise OpaqueError("the expression nests too deeply")
            value = self._value(node)
            self.budget.spend(work=len(value) if isinstance(value, str | bytes) else 0)
            return value
        finally:
            self.depth -= 1

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name) and node.id in self.nodes:
            return self.value(self.nodes[node.id])
        if isinstance(node, ast.List | ast.Tuple) and len(node.elts) < 20:
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.Dict) and len(node.keys) < 20:
            keys = [self.value(key) for key in node.keys if key is not None]
            if len(keys) < len(node.keys) or not all(isinstance(key, str | int) for key in keys):
                raise OpaqueError("a table whose keys are no plain words")
            return {key: self.value(item) for key, item in zip(keys, node.values, strict=True)}
        if isinstance(node, ast.Attribute) and self.path(node).split(".")[-1] in LZMA_NAMES:
            return LZMA_NAMES[node.attr]
        if isinstance(node, ast.Call):
            return self._call(node)
        raise OpaqueError(f"exec of an expression that can't be evaluated as data ({type(node).__name__})")

    def path(self, node: ast.expr) -> str:
        """Dotted name of a function, with imports resolved."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.path(node.value)}.{node.attr}"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "__import__"
            and node.args
        ):
            argument = node.args[0]
            return str(argument.value) if isinstance(argument, ast.Constant) else ""
        return ""

    def _call(self, node: ast.Call) -> Any:
        name = self.path(node.func)
        if name in DECODERS and node.args:
            return _decoded(DECODERS[name], self.value(node.args[0]))
        if name.endswith("decompress") and node.args:
            options = {k.arg: self.value(k.value) for k in node.keywords if k.arg}
            positional = [self.value(item) for item in node.args]
            return decompress(name.split(".")[0], positional, options)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("decode", "encode", "strip", "replace"):
            return self._method(node.func, node)
        raise OpaqueError(f"exec of a call that can't be evaluated as data ({name[:60] or 'unnamed'})")

    def _method(self, function: ast.Attribute, node: ast.Call) -> Any:
        value = self.value(function.value)
        arguments = [self.value(item) for item in node.args]
        if not isinstance(value, str | bytes):
            raise OpaqueError("exec of something that is no text")
        if function.attr == "decode" and isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if function.attr == "encode" and isinstance(value, str):
            return value.encode("utf-8", "replace")
        if not all(isinstance(item, type(value)) for item in arguments):
            raise OpaqueError("exec of a text whose change can't be told")
        if function.attr == "strip" and len(arguments) < 2:
            return value.strip(*arguments)
        bounded = len(value) <= MAX_OUTPUT and all(len(item) <= 16 for item in arguments)
        if function.attr != "replace" or len(arguments) != 2 or not bounded:
            raise OpaqueError("exec of a text whose change can't be told")
        return value.replace(*arguments)


def _decoded(decoder: Callable[[Any], bytes], value: Any) -> bytes:
    try:
        return decoder(value)
    except (ValueError, TypeError) as error:
        raise OpaqueError(f"the packed text can't be decoded: {str(error)[:80]}") from error


def decompress(module: str, positional: list[Any], options: dict[str, Any]) -> bytes:
    """Decompress at most :data:`MAX_OUTPUT` bytes. Raises :class:`OpaqueError` for more, or for other formats."""
    data = positional[0]
    if not isinstance(data, bytes):
        raise OpaqueError("decompression of something that is no bytes")
    try:
        if module == "zlib":
            bits = positional[1] if len(positional) > 1 else options.get("wbits", zlib.MAX_WBITS)
            return _bounded(zlib.decompressobj(bits).decompress(data, MAX_OUTPUT + 1))
        if module == "gzip":
            return _bounded(zlib.decompressobj(31).decompress(data, MAX_OUTPUT + 1))
        if module == "bz2":
            return _bounded(bz2.BZ2Decompressor().decompress(data, MAX_OUTPUT + 1))
        if module == "lzma":
            return _bounded(_lzma(positional, options).decompress(data, MAX_OUTPUT + 1))
    except (lzma.LZMAError, zlib.error, OSError, ValueError, TypeError, EOFError, MemoryError) as error:
        raise OpaqueError(f"the packed text can't be decompressed: {str(error)[:80]}") from error
    raise OpaqueError(f"compressed by {module[:40]}, which is not read here")


def _lzma(positional: list[Any], options: dict[str, Any]) -> lzma.LZMADecompressor:
    form = positional[1] if len(positional) > 1 else options.get("format", lzma.FORMAT_AUTO)
    filters = positional[3] if len(positional) > 3 else options.get("filters")
    if form != lzma.FORMAT_RAW:
        return lzma.LZMADecompressor(form, memlimit=MEMORY)
    for item in filters or []:
        if not isinstance(item, dict) or int(item.get("dict_size", 0)) > MAX_DICTIONARY:
            raise OpaqueError("an LZMA filter with a dictionary beyond bounds")
    return lzma.LZMADecompressor(form, filters=filters)


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_OUTPUT:
        raise OpaqueError(f"the packed text unpacks to more than {MAX_OUTPUT:,} bytes")
    return data
