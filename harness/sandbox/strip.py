"""Python source without what its authors wrote for people (``copies.py``).

A program: it reads names on standard input, each ended by NUL, three for a file (source, copy, compiled copy or none),
and writes the copies. Covered: documentation strings and all other strings that are statements; strings that become
documentation by a call or an assignment (``_DOCUMENTS``); comments. Lines keep their numbers, so tracebacks,
``inspect.getsource`` and the compilers of torch and triton work on a copy as on the original. Not covered: messages,
names, comments inside a string that is written in parts. Only the standard library is imported here.
"""

import ast
import gc
import importlib.util
import itertools
import os
import py_compile
import re
import sys
from pathlib import Path

_COMMENT = re.compile(rb"#(?!\s*type:)[^\n]*")  # torch.jit reads types in comments
# What documents by a call or by a name: add_docstr(f, text), add_newdoc(…, text), f.__doc__ = text, docstring = text
_DOCUMENTS = re.compile(r"add_?\w*doc|(^|_)(docs?|doc__|docstr(ing)?s?|notes?)$", re.IGNORECASE)
# In place of a text. Packages format, split and extend it, networkx looks for its first line that is not blank, and
# torch keeps a pointer to what it is given, which is lost where there are less than 16 characters.
_NO_TEXT = b'"' + b"-" * 16 + b'"'
_PROSE = 40  # characters: shorter strings there are names and separators
_NAMING = (ast.Call, ast.Assign, ast.AugAssign, ast.AnnAssign)
_FORMATTED: tuple[type[ast.expr], ...] = (ast.JoinedStr, getattr(ast, "TemplateStr", ast.JoinedStr))


def stripped(source: bytes) -> bytes:
    """``source`` as UTF-8 without comments, each documentation string one of dashes over as many lines.

    Raises ``SyntaxError`` for what is no Python, or of another version.
    """
    text = importlib.util.decode_source(source).encode()
    starts = [0, *itertools.accumulate(len(line) + 1 for line in text.split(b"\n"))]
    strings, emptied = dict[tuple[int, int], ast.expr](), set[tuple[int, int]]()

    def span(node: ast.expr) -> tuple[int, int]:
        """Where a node begins and how far from the end of ``text`` it ends: in this order longer ones come first."""
        last, column = node.end_lineno or 0, node.end_col_offset or 0
        return starts[node.lineno - 1] + node.col_offset, -starts[last - 1] - column

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _FORMATTED) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            strings[span(node)] = node
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            emptied.add(span(node.value))
        elif isinstance(node, _NAMING) and _DOCUMENTS.search(_name(node)):
            inside = [at for at in ast.walk(node) if isinstance(at, ast.expr)]
            needed = [at.left for at in inside if isinstance(at, ast.BinOp) and isinstance(at.op, ast.Mod)]
            emptied |= {span(inner) for inner in inside if _is_prose(inner) and inner not in needed}
    # All outside of strings is code and comments. What lies inside a string is a part of it.
    pieces, at = list[bytes](), 0
    for begin, end in sorted(strings):
        if begin >= at:
            node = strings[begin, end]
            # lines go on by a backslash: what follows on the last one is of the same statement
            more = (b"\\\n" + b" " * node.col_offset) * ((node.end_lineno or 0) - node.lineno)
            at, before = -end, text[at:begin]
            pieces += [_COMMENT.sub(b"", before), _NO_TEXT + more if (begin, end) in emptied else text[begin:-end]]
    return b"".join((*pieces, _COMMENT.sub(b"", text[at:]), b"\n"))


def _is_prose(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return len(node.value) > _PROSE and " " in node.value
    return isinstance(node, _FORMATTED) and any(map(_is_prose, ast.iter_child_nodes(node)))


def _name(node: ast.Call | ast.Assign | ast.AugAssign | ast.AnnAssign) -> str:
    """The function that a call names, or what an assignment gives a value first."""
    if isinstance(node, ast.Call):
        named = node.func
    else:
        named = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return str(getattr(named, "id", getattr(named, "attr", "")))


def main() -> None:
    """Make the copies that standard input asks for. A file that is no Python gets an empty copy."""
    gc.disable()  # syntax trees have no cycles, and it looks for them half of the time
    names = map(os.fsdecode, sys.stdin.buffer.read().split(b"\0"))
    for original, copy, compiled in zip(names, names, names, strict=False):
        try:
            text = stripped(Path(original).read_bytes())
        except (SyntaxError, ValueError):
            text = b""
        Path(copy).write_bytes(text)
        if compiled:
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH  # neither is ever written again
            py_compile.compile(copy, compiled, original, doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    main()
