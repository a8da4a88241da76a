"""A program that copies and compiles Python source without what its authors wrote for people (``copies.py``).

Covered: documentation strings and all other strings that are statements; strings that a call or an assignment makes
documentation (``_DOCUMENTS``); comments. Lines keep their numbers, so tracebacks, ``inspect.getsource`` and compilers
work on a copy as on the original. Not covered: messages, names. Only the standard library is imported here.
"""

import ast
import gc
import importlib.util
import itertools
import multiprocessing
import os
import py_compile
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

_COMMENT = re.compile(rb"#(?!\s*type:)[^\n]*")  # torch.jit reads types in comments
# What documents by a call or by a name: add_docstr(f, text), add_newdoc(…, text), f.__doc__ = text, docstring = text
_DOCUMENTS = re.compile(r"add_?\w*doc|(^|_)(docs?|doc__|docstr(ing)?s?|notes?)$", re.IGNORECASE)
# In place of a text. Packages format, split and extend it, networkx looks for its first line that is not blank, and
# torch keeps a pointer to what it is given, which is lost where there are less than 16 characters.
_NO_TEXT = b'"' + b"-" * 16 + b'"'
_PROSE = 40  # characters: shorter strings there are names and separators
_FORMATTED: tuple[type[ast.expr], ...] = (ast.JoinedStr, getattr(ast, "TemplateStr", ast.JoinedStr))


def stripped(source: bytes) -> bytes:
    """``source`` as UTF-8 without comments, each text one of dashes on as many lines. Raises ``SyntaxError``."""
    text = importlib.util.decode_source(source).encode()
    starts = [0, *itertools.accumulate(len(line) + 1 for line in text.split(b"\n"))]
    strings, emptied = dict[tuple[int, int], ast.expr](), set[tuple[int, int]]()

    def span(node: ast.expr) -> tuple[int, int]:  # the end is negative: so longer ones come first
        end = starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        return starts[node.lineno - 1] + node.col_offset, -end

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _FORMATTED) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            strings[span(node)] = node
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            emptied.add(span(node.value))
        elif isinstance(node, ast.Call | ast.Assign | ast.AugAssign | ast.AnnAssign):
            named = getattr(node, "func", None) or getattr(node, "target", None) or getattr(node, "targets", [0])[0]
            if _DOCUMENTS.search(getattr(named, "id", getattr(named, "attr", ""))):
                inside = list(ast.walk(node))
                needed = [at.left for at in inside if isinstance(at, ast.BinOp) and isinstance(at.op, ast.Mod)]
                words = [(at, at.value) for at in inside if isinstance(at, ast.Constant) and isinstance(at.value, str)]
                emptied |= {span(at) for at, said in words if len(said) > _PROSE and " " in said and at not in needed}
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


def copy(original: str, target: str) -> None:
    """Write ``original`` without its texts to ``target`` and compile it; as it is where it is not (this) Python."""
    source = Path(original).read_bytes()
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH  # neither is ever written again
    try:
        Path(target).write_bytes(stripped(source))
        py_compile.compile(target, dfile=original, doraise=True, invalidation_mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError, py_compile.PyCompileError):
        Path(target).write_bytes(source)


def main() -> None:
    """Make the copies that standard input names: (source, copy), each ended by NUL; on all processors."""
    gc.disable()  # syntax trees have no cycles, and it looks for them half of the time
    names = os.fsdecode(sys.stdin.buffer.read()).split("\0")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("fork")) as pool:
        list(pool.map(copy, names[:-1:2], names[1::2], chunksize=8))


if __name__ == "__main__":
    main()
