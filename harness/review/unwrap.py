"""Python source as a tree, whatever Python runs this; self-extracting scripts unwrapped without running them.

What this Python does not parse (f-strings of a later version, a statement that is new) is parsed with its f-strings
emptied, then statement by statement. Understood in ``exec``: constants, names bound to them, ``import x as y``,
base64, base85, hex, LZMA (also raw), zlib, gzip, bz2, ``.decode()``, ``compile``, ``exec(open("file").read())``.
"""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

MAX_OUTPUT, MAX_LAYERS, MAX_DICTIONARY, MEMORY = 4 << 20, 4, 64 << 20, 160 << 20
MAX_NODES, MAX_WORK = 20_000, 64 << 20
"""Expressions, and bytes and characters that evaluating one script may produce, all layers together."""
DECODERS: dict[str, Callable[[Any], bytes]] = {
    **{f"base64.{name}": getattr(base64, name) for name in ("b85decode", "b64decode", "b32decode", "a85decode")},
    "base64.standard_b64decode": base64.b64decode,
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "binascii.a2b_base64": binascii.a2b_base64,
    "binascii.unhexlify": binascii.unhexlify,
    "bytes.fromhex": bytes.fromhex,
}
LZMA_NAMES = {
    name: getattr(lzma, name) for name in dir(lzma) if name.startswith(("FORMAT_", "FILTER_", "CHECK_", "PRESET_"))
}
_STRING = re.compile(r"#[^\n]*|(?<![\w])([A-Za-z]{0,3})(\"\"\"|'''|\"|')")
_PLAIN_END = {q: re.compile(rf"(?:[^\\{q[0]}]|\\.|{q[0]}(?!{q[0]}{{2}}))*+{q}", re.DOTALL) for q in ('"""', "'''")} | {
    q: re.compile(rf"(?:[^\\{q}\n]|\\.)*+{q}", re.DOTALL) for q in "\"'"
}
_CONTINUES = ("else", "elif", "except", "finally", "case")


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

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the innermost source, gathered once."""
        return [] if self.tree is None else list(ast.walk(self.tree))


def parse(source: str) -> ast.Module:
    """The syntax tree, as far as there is one. Raises :class:`OpaqueError` for what is no Python at all."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = str(error)[:120] or type(error).__name__
    emptied = _without_fstrings(source) if len(source) <= MAX_OUTPUT else source
    try:
        return ast.parse(emptied)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = _by_statement(emptied)
    if not tree.body:
        raise OpaqueError(f"not parseable Python: {problem}")
    return tree


def _without_fstrings(source: str) -> str:
    """The source with each f-string (and t-string) replaced by an empty one on as many lines."""
    parts, at = list[str](), 0
    while hit := _STRING.search(source, at):
        end = _string_end(source, hit) if hit[2] else hit.end()
        formatted = hit[2] and set(hit[1].lower()) & {"f", "t"}
        lines = source.count("\n", hit.start(), end)
        parts += [source[at : hit.start()], f'"""{chr(10) * lines}"""' if formatted else source[hit.start() : end]]
        at = end
    return "".join([*parts, source[at:]])


def _string_end(source: str, hit: re.Match[str], depth: int = 0) -> int:
    """Where the string that ``hit`` opens ends; expressions in an f-string may hold strings with the same quotes."""
    quote, raw = hit[2], "r" in hit[1].lower()
    if not set(hit[1].lower()) & {"f", "t"} or depth > 8:
        end = _PLAIN_END[quote].match(source, hit.end())
        return end.end() if end else len(source)
    at, braces = hit.end(), 0
    while at < len(source):
        if braces == 0 and source.startswith(quote, at):
            return at + len(quote)
        if (source[at] == "\\" and braces == 0 and not raw) or (braces == 0 and source[at : at + 2] in ("{{", "}}")):
            at += 2
        elif braces and (inner := _STRING.match(source, at)) and inner[2]:
            at = _string_end(source, inner, depth + 1)
        else:
            braces = max(0, braces + (source[at] == "{") - (source[at] == "}"))
            at += 1
    return len(source)


def _by_statement(source: str) -> ast.Module:
    """The statements of a module that parse by themselves; the others are passed over."""
    lines = source.split("\n")
    heads = [i for i, line in enumerate(lines) if line[:1].isidentifier() or line[:1] in "@(["]
    heads = [i for i in heads if not lines[i].startswith(_CONTINUES)][:4_000]
    module, at = ast.Module([], []), 0
    while at < len(heads):
        for reach in (1, 2, 3):
            end = heads[at + reach] if at + reach < len(heads) else len(lines)
            try:
                part = ast.parse("\n".join(lines[heads[at] : end]))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            module.body += [ast.increment_lineno(node, heads[at]) for node in part.body]
            at += reach - 1
            break
        at += 1
    return module


class _Scope:
    """Names of the module so far: constants and imported modules; and what evaluating may still cost."""

    def __init__(self, late: Callable[[], bool]) -> None:
        self.late, self.left, self.work = late, MAX_NODES, MAX_WORK
        self.reset()

    def reset(self) -> None:
        """Forget the names, for the next layer."""
        self.modules: dict[str, str] = {}
        self.nodes: dict[str, ast.expr] = {}
        self.depth = 0

    def learn(self, statement: ast.stmt) -> None:
        """Take up an import or an assignment to a name."""
        if isinstance(statement, ast.Import):
            self.modules |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            self.modules |= {a.asname or a.name: f"{statement.module}.{a.name}" for a in statement.names}
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                self.nodes[target.id] = statement.value

    def value(self, node: ast.expr) -> Any:
        """What an expression gives, as data. Raises :class:`OpaqueError`."""
        self.depth += 1
        try:
            if self.depth > 40:
                raise OpaqueError("the expression nests too deeply")
            value = self._value(node)
            self.left -= 1
            self.work -= len(value) if isinstance(value, str | bytes) else 0
            if self.left < 0 or self.work < 0:
                raise OpaqueError("the expression grows beyond bounds when it is evaluated")
            if self.left % 64 == 0 and self.late():
                raise OpaqueError("the folder's time is used up")
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
        if isinstance(node, ast.Attribute) and node.attr in LZMA_NAMES:
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
        imported = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__"
        first = node.args[0] if isinstance(node, ast.Call) and imported and node.args else None
        return str(first.value) if isinstance(first, ast.Constant) else ""

    def _call(self, node: ast.Call) -> Any:
        name = self.path(node.func)
        if name in DECODERS and node.args:
            try:
                return DECODERS[name](self.value(node.args[0]))
            except (ValueError, TypeError) as error:
                raise OpaqueError(f"the packed text can't be decoded: {str(error)[:80]}") from error
        if name.endswith("decompress") and node.args:
            options = {k.arg: self.value(k.value) for k in node.keywords if k.arg}
            return decompress(name.split(".")[0], [self.value(item) for item in node.args], options)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("decode", "encode", "strip", "replace"):
            return self._method(node.func, [self.value(item) for item in node.args])
        raise OpaqueError(f"exec of a call that can't be evaluated as data ({name[:60] or 'unnamed'})")

    def _method(self, function: ast.Attribute, arguments: list[Any]) -> Any:
        value = self.value(function.value)
        if function.attr == "decode" and isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if function.attr == "encode" and isinstance(value, str):
            return value.encode("utf-8", "replace")
        if isinstance(value, str | bytes) and all(isinstance(item, type(value)) for item in arguments):
            if function.attr == "strip" and len(arguments) < 2:
                return value.strip(*arguments)
            bounded = len(value) <= MAX_OUTPUT and all(len(item) <= 16 for item in arguments)
            if function.attr == "replace" and len(arguments) == 2 and bounded:
                return value.replace(*arguments)
        raise OpaqueError("exec of a text whose change can't be told")


def unwrap(source: str, late: Callable[[], bool] = lambda: False) -> Unwrapped:
    """Follow ``exec`` shims to the innermost source. Never raises and never runs anything.

    late: whether the time for the folder is used up; asked again and again
    """
    found, scope = Unwrapped(source, None), _Scope(late)
    try:
        found.tree = parse(source)
        while (inner := _inner(found, scope)) is not None:
            if found.layers == MAX_LAYERS:
                raise OpaqueError(f"more than {MAX_LAYERS} layers of exec")
            found.source, found.tree = inner, parse(inner)
            found.layers += 1
    except OpaqueError as error:
        found.opaque = str(error)
    except RecursionError:
        found.opaque = "the expression nests too deeply"
    return found


def _inner(found: Unwrapped, scope: _Scope) -> str | None:
    assert found.tree is not None
    scope.reset()
    for statement in found.tree.body:
        scope.learn(statement)
        call = statement.value if isinstance(statement, ast.Expr) else None
        runs = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("exec", "eval")
        if not (isinstance(call, ast.Call) and runs and call.args):
            continue
        argument = call.args[0]
        if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) and argument.func.id == "compile":
            argument = argument.args[0] if argument.args else argument
        if name := _opened(argument, scope):
            found.executes.append(name)
            continue
        value = scope.value(argument)
        if not isinstance(value, str | bytes) or len(value) > MAX_OUTPUT:
            raise OpaqueError(f"exec of no text, or of more than {MAX_OUTPUT:,} characters")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return None


def _opened(node: ast.expr, scope: _Scope) -> str:
    """The file name of ``open("x").read()`` or ``Path("x").read_text()`` anywhere in ``node``, also by a name."""
    for item in ast.walk(node):
        if isinstance(item, ast.Name) and isinstance(scope.nodes.get(item.id), ast.Call):
            node = scope.nodes[item.id]
    for item in ast.walk(node):
        if isinstance(item, ast.Call) and item.args and isinstance(item.args[0], ast.Constant):
            name = item.func.id if isinstance(item.func, ast.Name) else getattr(item.func, "attr", "")
            if name in ("open", "Path") and isinstance(item.args[0].value, str):
                return item.args[0].value
    return ""


def decompress(module: str, positional: list[Any], options: dict[str, Any]) -> bytes:
    """Decompress at most :data:`MAX_OUTPUT` bytes. Raises :class:`OpaqueError` for more, or for other formats."""
    data = positional[0]
    if not isinstance(data, bytes) or module not in ("zlib", "gzip", "bz2", "lzma"):
        raise OpaqueError(f"compressed by {module[:40]}, or no bytes: not read here")
    try:
        if module == "bz2":
            out = bz2.BZ2Decompressor().decompress(data, MAX_OUTPUT + 1)
        elif module == "lzma":
            out = _lzma(positional, options).decompress(data, MAX_OUTPUT + 1)
        else:
            bits = positional[1] if len(positional) > 1 else options.get("wbits", zlib.MAX_WBITS)
            out = zlib.decompressobj(31 if module == "gzip" else bits).decompress(data, MAX_OUTPUT + 1)
    except (lzma.LZMAError, zlib.error, OSError, ValueError, TypeError, EOFError, MemoryError) as error:
        raise OpaqueError(f"the packed text can't be decompressed: {str(error)[:80]}") from error
    if len(out) > MAX_OUTPUT:
        raise OpaqueError(f"the packed text unpacks to more than {MAX_OUTPUT:,} bytes")
    return out


def _lzma(positional: list[Any], options: dict[str, Any]) -> lzma.LZMADecompressor:
    form = positional[1] if len(positional) > 1 else options.get("format", lzma.FORMAT_AUTO)
    filters = positional[3] if len(positional) > 3 else options.get("filters")
    if form != lzma.FORMAT_RAW:
        return lzma.LZMADecompressor(form, memlimit=MEMORY)
    for item in filters or []:
        if not isinstance(item, dict) or int(item.get("dict_size", 0)) > MAX_DICTIONARY:
            raise OpaqueError("an LZMA filter with a dictionary beyond bounds")
    return lzma.LZMADecompressor(form, filters=filters)
