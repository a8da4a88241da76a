"""Python source as a tree, whatever Python runs this; self-extracting scripts unwrapped without running them.

What this Python does not parse (f-strings of a later version) is parsed with its f-strings emptied. Of ``exec`` only
the data is looked at: the longest constant in it, by whatever names it goes, decoded and decompressed in every way that
public scripts use until Python comes out.
"""

import ast
import base64
import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

from harness.review.patterns import WORDS

MAX_OUTPUT, MAX_LAYERS, MAX_NODES, MEMORY = 4 << 20, 4, 20_000, 160 << 20
MAX_CODE = 1 << 20
"""Characters of a script beside texts and comments: its tree takes up to 600 bytes for each."""
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
_FSTRINGS = tuple(WORDS[f"{kind}_fstring"] for kind in ("long", "long_single", "short", "short_single"))


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
    def statements(self) -> list[ast.AST]:
        """Every statement of the innermost source, gathered once."""
        found: list[ast.AST] = [] if self.tree is None else [self.tree]
        for node in found:
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                found += getattr(node, name, ())
        return found

    @property
    def imports(self) -> list[str]:
        """Modules that it imports, and names of modules that may be such."""
        plain = [alias.name for node in self.statements if isinstance(node, ast.Import) for alias in node.names]
        starts = [(node.module or "", node.names) for node in self.statements if isinstance(node, ast.ImportFrom)]
        below = [f"{start}.{alias.name}".lstrip(".") for start, names in starts for alias in names]
        return [name for name in [*plain, *(start for start, _ in starts), *below] if name]


def parse(source: str) -> ast.Module:
    """The syntax tree, as far as there is one. Raises :class:`OpaqueError` for what is not Python at all.

    Nor for what takes the parser gigabytes: it keeps every beginning of a dotted name that is imported, so that
    ``import a.a.a…`` of 120 kB takes 4 GB.
    """
    if WORDS["dotted_name"].search(source):
        raise OpaqueError("it has a dotted name of more than 200 parts")
    if len(source) > MAX_CODE and len(WORDS["python_texts"].sub("", source)) > MAX_CODE:
        raise OpaqueError(f"it has more than {MAX_CODE:,} characters of code")

    without_fields = partial(WORDS["fstring_field"].sub, lambda field: "\\\n" * field[0].count("\n"))
    problem = ""
    for patterns in ((), _FSTRINGS) if len(source) <= MAX_OUTPUT else ((),):
        for pattern in patterns:
            source = pattern.sub(lambda hit: without_fields(hit[0].replace("{{", "")), source)
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = problem or str(error)[:120] or type(error).__name__
    raise OpaqueError(f"not parseable Python: {problem}")


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
    return found


def _inner(found: Unwrapped, late: Callable[[], bool]) -> tuple[str, ast.Module] | None:
    names: dict[str, ast.expr] = {}
    for statement in found.tree.body if found.tree else ():
        match statement:
            case ast.Assign(targets=[ast.Name(id=name), *_], value=value):
                names[name] = value
            case ast.Expr(value=ast.Call(func=ast.Name(id="exec" | "eval"), args=[code, *_])):
                nodes = _reached(code, dict(names))
                calls = [(n.func, n.args[0]) for n in nodes if isinstance(n, ast.Call) and n.args]
                opened = [x for of, x in calls if getattr(of, "attr", getattr(of, "id", "")) in ("open", "Path")]
                files = [str(name.value) for name in opened if isinstance(name, ast.Constant)]  # open("x"), Path("x")
                if not files:
                    return _unpacked(nodes, late)
                found.executes.append(files[0])
    return None


def _reached(node: ast.expr, names: dict[str, ast.expr]) -> list[ast.AST]:
    """The nodes of an expression and of what its names stand for, each name once."""
    found: list[ast.AST] = [node]
    for item in found:
        found += ast.iter_child_nodes(item)
        if isinstance(item, ast.Name) and item.id in names:
            found.append(names.pop(item.id))
        if len(found) > MAX_NODES:
            raise OpaqueError("the expression grows beyond bounds")
    return found


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
            with suppress(UnicodeDecodeError, OpaqueError):
                text = out.decode("utf-8")
                if text.strip():
                    return text, parse(text)
    raise OpaqueError("the packed text can't be unpacked")


def _each(ways: tuple[Callable[[bytes], bytes], ...], data: bytes) -> Iterator[bytes]:
    for way in ways:
        with suppress(ValueError, lzma.LZMAError, zlib.error, OSError, EOFError, MemoryError):
            yield way(data)
