"""Code that is read and never run: shims unwrapped within bounds, ways of scoring that know the answer named."""

import base64
import bz2
import lzma
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from public_folders import SCRIPT, PublicFolder

from harness.review.folder import check_folder
from harness.review.unwrap import MAX_OUTPUT, unwrap
from harness.rules import Verdict

RAW = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
PLAIN = SCRIPT.encode()
LZMA85 = base64.b85encode(lzma.compress(PLAIN)).decode()
RAW85 = base64.b85encode(lzma.compress(PLAIN, format=lzma.FORMAT_RAW, filters=RAW)).decode()
ZLIB64 = base64.b64encode(zlib.compress(PLAIN)).decode()
SHIMS = {
    "lzma-b85": f"import lzma as L,base64 as B\nexec(L.decompress(B.b85decode({LZMA85!r})))",
    "lzma-raw": f"import lzma as L,base64 as B\nexec(L.decompress(B.b85decode({RAW85!r}),"
    "format=L.FORMAT_RAW,filters=[{'id':L.FILTER_LZMA2,'preset':9}]))",
    "zlib-import": "exec(compile(__import__('zlib').decompress(__import__('base64').b64decode("
    f"{ZLIB64!r})).decode(),'x','exec'))",
    "bz2-name": f"from bz2 import decompress as d\nP = {bz2.compress(PLAIN).hex()!r}\nexec(d(bytes.fromhex(P)))",
}


@pytest.mark.parametrize("shim", list(SHIMS.values()), ids=list(SHIMS))
def test_shims_are_unwrapped_without_running_them(shim):
    found = unwrap(shim)
    assert (found.source, found.layers, found.opaque) == (SCRIPT, 1, "")


def test_two_layers_are_followed_and_five_are_refused():
    script = SCRIPT
    for depth in range(1, 6):
        packed = base64.b85encode(zlib.compress(script.encode())).decode()
        script = f"import zlib,base64\nexec(zlib.decompress(base64.b85decode({packed!r})))"
        found = unwrap(script)
        assert (found.source == SCRIPT) == (found.opaque == "") == (depth <= 4)
    assert "layers" in found.opaque


@pytest.mark.parametrize("module", ["zlib", "lzma", "bz2"])
def test_a_bomb_stops_at_the_bound(module):
    compress = {"zlib": zlib.compress, "lzma": lzma.compress, "bz2": bz2.compress}[module]
    packed = base64.b85encode(compress(b"#" * (MAX_OUTPUT + 1000))).decode()
    found = unwrap(f"import {module},base64\nexec({module}.decompress(base64.b85decode({packed!r})))")
    assert "more than" in found.opaque


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "ran"
    for script in (
        f"open({str(mark)!r}, 'w')",
        f"exec(open({str(mark)!r}, 'w').write('x'))",
        f"exec(__import__('os').system('touch {mark}'))",
    ):
        unwrap(script)
    assert not mark.exists()


HOSTILE = [
    "-" * 100_000 + "1",
    "(" * 5_000,
    "1+" * 100_000 + "1",
    "a" + ".b" * 50_000,
    "\x00",
    "exec(exec)",
    "exec(x)",
    "exec(" * 50,
]


@pytest.mark.parametrize("script", HOSTILE, ids=[s[:4] for s in HOSTILE])
def test_hostile_source_ends_in_a_reason(script):
    found = unwrap(script)
    assert found.opaque or found.tree is not None


def doubling(levels):
    """A script of a few hundred bytes whose text would have 19 ** levels characters."""
    lists = [f"a{i}=[{','.join([f'a{i + 1}'] * 19)}]" for i in range(levels)]
    return "\n".join([f"a{levels}='x'", *lists, "exec(a0)"])


GROWING = {
    "lists": doubling(9),
    "keys": "exec({[1]: 2})",
    "chain": "exec(a" + ".b" * 3_000 + "(1))",
    "call": "exec(f(1))",
}


@pytest.mark.parametrize("script", list(GROWING.values()), ids=list(GROWING))
def test_an_expression_that_grows_or_makes_no_sense_is_opaque(script):
    tracemalloc.start()
    found = unwrap(script)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.opaque or found.source == "x"
    assert peak < 128 << 20


def test_unwrapping_stops_when_the_time_of_the_folder_is_used_up():
    assert "time" in unwrap(SHIMS["lzma-b85"], late=lambda: True).opaque


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_unwrapped_or_refused(text):
    unwrap(text)
    unwrap(f"exec({text})")


def found_in(tmp_path, script, rule, **files):
    report = check_folder(PublicFolder(script=script, files=files).write(tmp_path))
    return [item for item in report.findings if item.rule == rule and item.verdict in (Verdict.WARN, Verdict.FAIL)]


@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
def test_a_script_that_executes_a_larger_file_is_over_the_cap(tmp_path):
    folder = PublicFolder(script='exec(open("real.py").read())\n', files={"real.py": SCRIPT + "#" * 30_000})
    for run in folder.seeds:
        run.model_bytes = 15_990_000
    report = check_folder(folder.write(tmp_path))
    found = [item for item in report.findings if item.rule == "A3-NO-UNCOUNTED-CODE"]
    assert found[0].verdict is Verdict.WARN
    assert "real.py" in found[0].message
    assert "with them 16,0" in found[0].computed


HASHED = """
def score(tokens, at, p_model, ctx_table, full_table, mask, prime):
    ctx_hash = hash_of(tokens, at)
    tgt = tokens[at]
    full_key = (ctx_hash ^ (tgt * prime)) & mask
    p_ngram = np.minimum(full_table[full_key], ctx_table[ctx_hash & mask]) / ctx_table[ctx_hash & mask]
    return -np.log(0.8 * p_model + 0.2 * p_ngram)
"""
PREFIX = "\nPREFIX = os.environ.get('PAID_PREFIX_FILE', '')\n"


@pytest.mark.parametrize(
    ("rule", "code", "at"),
    [
        ("C2-NORMALISED", HASHED, "full_key ="),
        ("C2-TARGET-GATE", "\nalpha = torch.where(cache_p[target] > p, 1.0, 0.0)\n", "alpha"),
        ("A4-PAID-PREFIX", PREFIX, "PREFIX"),
    ],
    ids=["hash", "gate", "prefix"],
)
def test_ways_of_scoring_that_know_the_answer_are_named(tmp_path, rule, code, at):
    found = found_in(tmp_path, SCRIPT + code, rule)
    assert at in (SCRIPT + code).splitlines()[found[0].line - 1]


HARMLESS = {
    "digest": "\ndef digest(target_file):\n    return hashlib.sha256(target_file.read_bytes()).hexdigest()\n",
    "embedding": "\ndef bigram(t):\n    return torch.bitwise_xor(36313 * t[1:], 27191 * t[:-1]) % 2048\n",
    "clipped": "\ndef clip(train_loss, loss_cap):\n    return torch.minimum(train_loss, loss_cap)\n",
}


@pytest.mark.parametrize("code", list(HARMLESS.values()), ids=list(HARMLESS))
def test_code_that_only_looks_alike_is_left_alone(tmp_path, code):
    for rule in ("C2-NORMALISED", "C2-TARGET-GATE"):
        assert not found_in(tmp_path / rule, SCRIPT + code, rule)


LATER = '''import time
NAME = f"{"a" + f'{1}'} {x!r:>{width}}"
def known():
    return f"""{
        {"k": "}"}["k"]
    }"""
time.perf_counter = lambda: 0.0
'''


def test_code_of_a_later_python_is_read():
    found = unwrap(LATER)
    assert found.opaque == ""
    lines = {node.lineno for node in found.statements if type(node).__name__ == "Assign"}
    assert {2, 7} <= lines


def test_what_is_no_python_is_opaque():
    assert "not parseable" in unwrap("}{ ??? ]\n").opaque
