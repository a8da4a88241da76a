"""What cells read of packages has no documentation, and works as before."""

import os
import py_compile
import sys
from pathlib import Path

import pytest
from cells import attempts, done, run_in_cell, ways

from harness.config.variables import cache_dir
from harness.errors import CouldNotCheck
from harness.run.cells import COPIES
from harness.sandbox import copies, policy, runtime
from harness.sandbox.strip import stripped

SOURCE = """# -*- coding: latin-1 -*-
'''A text of two lines
that nobody counted.'''; VALUE = 7
def add(a, b):  # words "about" it
    # type: (int, int) -> int
    '''More of the
    words.'''
    return "# none", f"{a} # {'#'}", b
add.__doc__ += "Words " "that are put together, and then over forty letters" + (
    "more of them here, in over forty letters: %s" % 1)
class One: "words"
"""
SITE = next(place for place in sys.path if "site-packages" in place)
TAG, BASE = sys.implementation.cache_tag, runtime.runtime((), tools=False, gpus=False)
BEFORE = f"import sys; sys.path.append({SITE!r}); sys.modules['tqdm'] = None; import json, inspect, torch"


def test_a_copy_keeps_lines_and_code_and_loses_words():
    copy, seen, own = stripped(SOURCE.encode("latin-1")).decode(), {}, {}
    exec(copy, seen)
    exec(SOURCE, own)
    assert [line[:9] for line in copy.split("\n") if line[:3] in ("def", "cla")] == ["def add(a", "class One"]
    lines = SOURCE.split("\n")
    assert [copy.split("\n").index(line) for line in lines if "return" in line or "type:" in line] == [4, 7]
    assert seen["add"](1, 2) == own["add"](1, 2) == ("# none", "1 # #", 2)
    assert (seen["VALUE"], seen["add"].__code__.co_firstlineno) == (7, 4)
    assert "words" not in copy.lower()


@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
@ways
def test_a_cell_finds_no_documentation_to_learn_from(tmp_path: Path, namespaced: bool):
    words = {
        "library": "'JavaScript' in json.__doc__",
        "class": "'transformation' in torch.nn.Linear.__doc__",
        "method": "'tensor' in torch.Tensor.add.__doc__ + torch.add.__doc__",
        "file": "'JavaScript' in open(json.__file__).read()",
        "compiled": "b'JavaScript' in open(json.__cached__, 'rb').read()",
        "comment": "'# ' in inspect.getsource(torch.nn.functional)",
    }
    found = attempts(words, tmp_path / "log", before=BEFORE, namespaced=namespaced, copies=cache_dir() / COPIES)
    assert found == dict.fromkeys(words, f"done: {not namespaced}")  # a copy is seen in a root of the cell's own alone


def test_what_needs_source_finds_it(tmp_path: Path):
    program = """
def double(x):
    return torch.relu(x) * 2
class Twice(torch.nn.Linear):
    pass
x = torch.ones(2, 3)
torch._inductor.config.cpp_cache_precompile_headers = False
assert torch.equal(torch.compile(double)(x), double(x))
print(torch.jit.script(Twice(3, 4))(x).shape)
assert "F.linear" in inspect.getsource(torch.nn.Linear.forward)
json.loads("{")
"""
    (own := tmp_path / "own.py").write_text(BEFORE + program)
    rights = {"read": (own,), "tools": True, "copies": cache_dir() / COPIES, "file_bytes": 1 << 30}
    ended = run_in_cell(f"import runpy; runpy.run_path({str(own)!r})", tmp_path / "log", **rights)
    assert "torch.Size([2, 4])" in ended.text
    assert "obj, end = self.scan_once(s, idx)" in ended.text  # as the traceback tells it


def test_a_changed_file_makes_a_new_copy_and_nothing_else_gets_in(tmp_path: Path, monkeypatch):
    (place := tmp_path / "odd").mkdir()
    (tmp_path / "secret.py").write_text("SECRET = 1")
    (place / "lib").mkdir()
    for name in ("a.py", "no.py", "notes.md", "data.json", "lib/b.so"):
        (place / name).write_text(SOURCE if name == "a.py" else "no python")
    (place / "link.py").symlink_to("../secret.py")
    py_compile.compile(str(place / "a.py"))
    names = ("__pycache__", "a.py", "data.json", "lib", "link.py", "no.py")
    part, folder = runtime.Part("odd", tuple(place / name for name in names), (place,), (place,)), tmp_path / "copies"
    made = copies.with_copies.__wrapped__

    copy, beside = made((part, runtime.Part("beside", part.paths, part.listed, part.mounts)), folder)
    assert (beside.copies, beside.seen) == ((), copy.seen)  # as of NVIDIA's packages, which share a folder
    top = copy.copies[0][0]
    told = {path.name: path.read_bytes() for above in copy.seen for path in runtime._files(above) if path.is_file()}
    assert set(told) == {"a.py", "no.py", "notes.md", "data.json", "b.so", f"a.{TAG}.pyc"}
    assert b"counted" not in told["a.py"] + told[f"a.{TAG}.pyc"]
    assert told["no.py"] == b"no python"  # as it is, and counted
    assert (top / "notes.md").read_bytes() == b""
    assert made((part,), folder) == (copy,)
    (place / "a.py").write_text("'New words'; NEW = 1")
    (other,) = made((part,), folder)
    assert (other.copies[0][0] / "a.py").read_text() != (top / "a.py").read_text()
    for copied in (top, other.copies[0][0]):
        os.utime(copied.parent, (0, 0))  # unused for long
    assert made((part,), folder) == (other,)
    assert (top.exists(), other.copies[0][0].exists()) == (False, True)

    def cell(log: str) -> dict:
        monkeypatch.setattr(policy, "runtime", lambda *_, **__: (*BASE, part))
        actions = {name: f"open('{place / name}', 'rb').read()" for name in ("a.py", "notes.md", "link.py", "lib/b.so")}
        before = f"import sys; sys.path.append('{place}'); import a"
        return attempts(actions | {"new": "a.NEW"}, tmp_path / log, before=before, copies=folder)

    assert done(cell("log")) == {"a.py", "lib/b.so", "new"}


def test_a_folder_where_no_copy_can_be_made_is_named(tmp_path: Path, monkeypatch):
    (tmp_path / "a.py").write_text("1")
    part = runtime.Part("odd", (tmp_path / "a.py",), mounts=(tmp_path / "a.py",))
    (tmp_path / "program.py").write_text("import sys; sys.exit('OSError: No space left on device')")
    monkeypatch.setattr(copies, "_STRIP", tmp_path / "program.py")
    for folder, why in ((tmp_path / "copies", "No space left on device"), (tmp_path / "a.py", "File exists")):
        with pytest.raises(CouldNotCheck, match=f"without their documentation: .*{why}") as stopped:
            copies.with_copies((part,), folder)
        assert "GOLF_CACHE_DIR" in stopped.value.remedy
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [".lock"]  # nothing half made
