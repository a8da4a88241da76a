"""Python source as a tree, whatever Python runs this; self-extracting scripts unwrapped without running them.

What this Python does not parse (f-strings of a later version) is parsed with its f-strings emptied. Of ``exec`` only
the data is looked at: the longest constant in it, by whatever names it goes, decoded and decompressed in every way that
public scripts use until Python comes out.
"""

from __future__ import annotations

import ast
import base64
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

MAX_OUTPUT, MAX_LAYERS, MAX_NODES, MEMORY = 4 << 20, 4, 20_000, 160 << 20
DECODERS: tuple[Callable[[bytes], bytes], ...] = (
    *(base64.b85decode, lambda data: base64.b64decode(data, validate=True), base64.a85decode),
    *(lambda data: bytes.fromhex(data.decode("ascii")), base64.b32decode, base64.urlsafe_b64decode),
)
_RAW = [{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}]
UNPACKERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: lzma.LZMADecompressor(memlimit=MEMORY).decompress(data, MAX_OUTPUT + 1),
    lambda data: zlib.decompressobj(47).decompress(data, MAX_OUTPUT + 1),
    lambda data: zlib.decompressobj(-15).decompress(data, MAX_OUTPUT + 1),
    lambda data: bz2.BZ2Decompressor().decompress(data, MAX_OUTPUT + 1),
    lambda data: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_RAW).decompress(data, MAX_OUTPUT + 1),
)
"""The last two take input that says nothing of its form, so what they give has to be Python."""
_STRING = re.compile(r"#[^\n]*|(?<![\w])([A-Za-z]{0,3})(\"\"\"|'''|\"|')")
_PLAIN_END = {q: re.compile(rf"(?:[^\\{q[0]}]|\\.|{q[0]}(?!{q[0]}{{2}}))*+{q}", re.DOTALL) for q in ('"""', "'''")} | {
    q: re.compile(rf"(?:[^\\{q}\n]|\\.)*+{q}", re.DOTALL) for q in "\"'"
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

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the innermost source, gathered once."""
        return [] if self.tree is None else list(ast.walk(self.tree))

    @property
    def imports(self) -> list[str]:
        """Modules that it imports, and names of modules that may be such."""
        plain = [alias.name for node in self.nodes if isinstance(node, ast.Import) for alias in node.names]
        starts = [(node.module or "", node.names) for node in self.nodes if isinstance(node, ast.ImportFrom)]
        below = [f"{start}.{alias.name}".lstrip(".") for start, names in starts for alias in names]
        return [name for name in [*plain, *(start for start, _ in starts), *below] if name]


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
        raise OpaqueError(f"not parseable Python: {problem}") from None


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


def unwrap(source: str, late: Callable[[], bool] = lambda: False) -> Unwrapped:
    """Follow ``exec`` shims to the innermost source. Never raises and never runs anything.

    late: whether the time for the folder is used up
    """
    found = Unwrapped(source, None)
    try:
        found.tree = parse(source)
        while (inner := _inner(found, late)) is not None:
            if found.layers == MAX_LAYERS:
                raise OpaqueError(f"more than {MAX_LAYERS} layers of exec")
            found.source, found.tree = inner
            found.layers += 1
    except OpaqueError as error:
        found.opaque = str(error)
    except RecursionError:
        found.opaque = "the expression nests too deeply"
    return found


def _inner(found: Unwrapped, late: Callable[[], bool]) -> tuple[str, ast.Module] | None:
    names: dict[str, ast.expr] = {}
    for statement in found.tree.body if found.tree else ():
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            names[statement.targets[0].id] = statement.value
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
            continue
        if call.func.id in ("exec", "eval"):
            nodes = list(_reached(call.args[0], names))
            opened = next(filter(None, map(_opened, nodes)), "")
            if not opened:
                return _unpacked(nodes, late)
            found.executes.append(opened)
    return None


def _reached(node: ast.expr, names: dict[str, ast.expr]) -> Iterator[ast.AST]:
    """The nodes of an expression and of what its names stand for, each name once."""
    waiting: list[ast.AST] = [node]
    seen: set[str] = set()
    for _ in range(MAX_NODES):
        if not waiting:
            return
        item = waiting.pop()
        yield item
        waiting += ast.iter_child_nodes(item)
        if isinstance(item, ast.Name) and item.id in names and item.id not in seen:
            seen.add(item.id)
            waiting.append(names[item.id])
    raise OpaqueError("the expression grows beyond bounds")


def _opened(node: ast.AST) -> str:
    """The file name of ``open("x")`` or ``Path("x")``."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return ""
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    return str(node.args[0].value) if name in ("open", "Path") else ""


def _unpacked(nodes: list[ast.AST], late: Callable[[], bool]) -> tuple[str, ast.Module]:
    """The Python that the longest constant holds, as it is or packed."""
    constants = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str | bytes)]
    longest = max(constants, key=len, default="")
    data = longest.encode("utf-8", "replace") if isinstance(longest, str) else longest
    if not data:
        raise OpaqueError("exec of an expression without data")
    for raw in (*_each(DECODERS, data), data):
        for out in (*_each(UNPACKERS, raw), raw):
            if late():
                raise OpaqueError("the folder's time is used up")
            if len(out) > MAX_OUTPUT:
                raise OpaqueError(f"the packed text unpacks to more than {MAX_OUTPUT:,} bytes")
            try:
                text = out.decode("utf-8")
                if text.strip():
                    return text, parse(text)
            except (UnicodeDecodeError, OpaqueError):
                continue
    raise OpaqueError("the packed text can't be unpacked")


def _each(ways: tuple[Callable[[bytes], bytes], ...], data: bytes) -> Iterator[bytes]:
    for way in ways:
        try:
            yield way(data)
        except (ValueError, lzma.LZMAError, zlib.error, OSError, EOFError, MemoryError):
            continue
