"""Code that is read and never run: shims unwrapped within bounds, flows of validation tokens named."""

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
    "replaced": f"a={'y' * 300_000!r}\nb=a.replace('y','yyyyyyyyyyyyyyyy')\nexec(b)",
    "keys": "exec({[1]: 2})",
    "strip": "exec('x'.strip(1))",
    "chain": "exec(a" + ".b" * 3_000 + "(1))",
    "list": "exec(['print(1)'])",
}


@pytest.mark.parametrize("script", list(GROWING.values()), ids=list(GROWING))
def test_an_expression_that_grows_or_makes_no_sense_is_opaque(script):
    tracemalloc.start()
    found = unwrap(script)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.opaque
    assert peak < 128 << 20


def test_unwrapping_stops_when_the_time_of_the_folder_is_used_up():
    assert "time" in unwrap(doubling(9), late=lambda: True).opaque


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_unwrapped_or_refused(text):
    unwrap(text)
    unwrap(f"exec({text})")


def found_in(tmp_path, script, rule, **files):
    report = check_folder(PublicFolder(script=script, files=files).write(tmp_path))
    return [item for item in report.findings if item.rule == rule and item.verdict in (Verdict.WARN, Verdict.FAIL)]


TTT_FIRST = """
def adapt(model, val_tokens, optimiser):
    for epoch in range(8):
        x = val_tokens[:-1]
        loss = model(x, val_tokens[1:])
        loss.backward()
        optimiser.step()
"""
SCORE_FIRST = """
def legal(model, val_tokens, optimiser):
    loss_sum = 0.0
    for chunk in val_tokens.split(32768):
        with torch.inference_mode():
            loss_sum += model(chunk)
        loss = model(chunk)
        loss.backward()
        optimiser.step()
    return loss_sum
"""


@pytest.mark.rule("A6-PREQUANT-TTT")
def test_training_on_validation_before_its_score_is_named(tmp_path):
    found = found_in(tmp_path, SCRIPT + TTT_FIRST, "A6-PREQUANT-TTT")
    assert found[0].file == "train_gpt.py"
    assert "adapt()" in found[0].message
    assert "backward" in (SCRIPT + TTT_FIRST).splitlines()[found[0].line - 1]


def test_the_same_is_named_inside_a_shim(tmp_path):
    packed = base64.b85encode(lzma.compress((SCRIPT + TTT_FIRST).encode())).decode()
    shim = f"import lzma,base64\nexec(lzma.decompress(base64.b85decode({packed!r})))"
    assert found_in(tmp_path, shim, "A6-PREQUANT-TTT")


def test_score_first_adaptation_and_the_training_loop_are_left_alone(tmp_path):
    for rule in ("A6-PREQUANT-TTT", "C3-SCORE-BEFORE-UPDATE", "A6-WARMUP-VAL"):
        assert not found_in(tmp_path / rule, SCRIPT + SCORE_FIRST, rule)


GLOBAL_STEPS = """
def steps_on_prefix(model, val_tokens, optimiser):
    for chunk in val_tokens.split(32768):
        model(chunk).backward()
        optimiser.step()


def phased(model, val_tokens, optimiser):
    loss_sum = 0.0
    for part in val_tokens.split(100_000):
        with torch.no_grad():
            loss_sum += model(part)
        steps_on_prefix(model, part, optimiser)
    return loss_sum
"""


def test_a_helper_that_trains_on_what_its_caller_has_scored_is_left_alone(tmp_path):
    assert not found_in(tmp_path / "after", SCRIPT + GLOBAL_STEPS, "A6-PREQUANT-TTT")
    call = "        steps_on_prefix(model, part, optimiser)\n"
    before = GLOBAL_STEPS.replace(call, "").replace("        with torch", call + "        with torch")
    assert found_in(tmp_path / "before", SCRIPT + before, "A6-PREQUANT-TTT")


def test_settings_named_like_validation_data_are_none(tmp_path):
    assert not found_in(tmp_path, SCRIPT + LOOP, "A6-PREQUANT-TTT")


@pytest.mark.rule("C3-SCORE-BEFORE-UPDATE")
def test_training_above_the_score_is_named(tmp_path):
    lines = SCORE_FIRST.splitlines()
    block = lines[4:6]
    script = "\n".join([*lines[:4], *lines[6:9], *block, lines[9]])
    assert found_in(tmp_path, SCRIPT + script + "\n", "C3-SCORE-BEFORE-UPDATE")


@pytest.mark.rule("A6-WARMUP-VAL")
def test_warming_up_on_validation_tokens_is_named(tmp_path):
    warm = "\ndef warm_up(model, val_tokens):\n    loss = model(val_tokens)\n    loss.backward()\n"
    assert found_in(tmp_path / "a", SCRIPT + warm, "A6-WARMUP-VAL")
    random = warm.replace("model(val_tokens)", "model(torch.randint(9, val_tokens.shape))")
    assert not found_in(tmp_path / "b", SCRIPT + random, "A6-WARMUP-VAL")


TABLE = """
def table(sp):
    for i in range(sp.vocab_size()):
        {byte}
        piece = sp.id_to_piece(i)
        if piece.startswith("\u2581"):
            has_leading_space[i] = True
            piece = {strip}
        base[i] = len(piece.encode("utf-8"))
"""


@pytest.mark.rule("A7-BYTE-TABLE")
def test_byte_tables_that_count_otherwise_are_named(tmp_path):
    byte = "if sp.is_byte(i): base[i] = 1; continue"
    right = TABLE.format(byte=byte, strip="piece[1:]")
    assert not found_in(tmp_path / "right", SCRIPT + right, "A7-BYTE-TABLE")
    assert found_in(tmp_path / "bytes", SCRIPT + TABLE.format(byte="pass", strip="piece[1:]"), "A7-BYTE-TABLE")
    doubled = TABLE.format(byte=byte, strip='piece.replace("\u2581", " ")')
    assert found_in(tmp_path / "space", SCRIPT + doubled, "A7-BYTE-TABLE")


@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
def test_a_script_that_executes_a_larger_file_is_over_the_cap(tmp_path):
    folder = PublicFolder(script='exec(open("real.py").read())\n', files={"real.py": SCRIPT + "#" * 30_000})
    for run in folder.seeds:
        run.model_bytes = 15_990_000
    report = check_folder(folder.write(tmp_path))
    found = [item for item in report.findings if item.rule == "A3-NO-UNCOUNTED-CODE"]
    assert found[0].verdict is Verdict.FAIL
    assert "real.py" in found[0].message


LAST_EPOCH = """
def adapt(model, val_tokens, optimiser, args):
    loss_sum = 0.0
    for epoch in range(args.ttt_epochs):
        for chunk in val_tokens.split(256):
            per_token = model(chunk)
            if epoch == args.ttt_epochs - 1:
                with torch.no_grad():
                    loss_sum += per_token.sum()
            per_token.mean().backward()
            optimiser.step()
    return loss_sum
"""
SLOT = """
def eval_slot(model, windows):
    total_nll = 0.0
    for x, y in windows:
        hidden = model.body(x).detach()
        delta = torch.zeros(1, 1, 8, requires_grad=True)
        fit = torch.optim.AdamW([delta], lr=0.1)
        for _ in range(4):
            F.cross_entropy(model.head(hidden + delta), y).backward()
            fit.step()
        with torch.no_grad():
            total_nll += F.cross_entropy(model.head(hidden + delta), y)
    return total_nll
"""
HASHED = """
def score(tokens, at, p_model, ctx_table, full_table, mask, prime):
    ctx_hash = hash_of(tokens, at)
    tgt = tokens[at]
    full_key = (ctx_hash ^ (tgt * prime)) & mask
    p_ngram = np.minimum(full_table[full_key], ctx_table[ctx_hash & mask]) / ctx_table[ctx_hash & mask]
    return -np.log(0.8 * p_model + 0.2 * p_ngram)
"""
BETTER = "\ndef nats(plain_nll, mixed_nll):\n    return torch.minimum(plain_nll, mixed_nll)\n"
PREFIX = "\nPREFIX = os.environ.get('PAID_PREFIX_FILE', '')\n"


@pytest.mark.parametrize(
    ("rule", "code", "at"),
    [
        ("C3-SCORE-BEFORE-UPDATE", LAST_EPOCH, "if epoch"),
        ("C3-SCORE-BEFORE-UPDATE", SLOT, "AdamW"),
        ("C2-NORMALISED", HASHED, "full_key ="),
        ("C2-TARGET-GATE", BETTER, "minimum"),
        ("A4-PAID-PREFIX", PREFIX, "PREFIX"),
    ],
    ids=["last-epoch", "slot", "hash", "better", "prefix"],
)
def test_ways_of_scoring_that_know_the_answer_are_named(tmp_path, rule, code, at):
    found = found_in(tmp_path, SCRIPT + code, rule)
    assert at in (SCRIPT + code).splitlines()[found[0].line - 1]


LOOP = """
def train(args, loader, model):
    longest = max(args.train_seq_len, args.eval_seq_len)
    batch_tokens = args.val_batch_tokens // 8
    x, y = loader.next_batch(batch_tokens, longest)
    model(x, y).backward()
"""
HARMLESS = {
    "digest": "\ndef digest(target_file):\n    return hashlib.sha256(target_file.read_bytes()).hexdigest()\n",
    "every-epoch": LAST_EPOCH.replace("if epoch == args.ttt_epochs - 1:", "if epoch == 0:"),
    "adapter": SLOT.replace("[delta]", "adapter.parameters()"),
    "embedding": "\ndef bigram(t):\n    return torch.bitwise_xor(36313 * t[1:], 27191 * t[:-1]) % 2048\n",
    "clipped": "\ndef clip(train_loss, loss_cap):\n    return torch.minimum(train_loss, loss_cap)\n",
}


@pytest.mark.parametrize("code", list(HARMLESS.values()), ids=list(HARMLESS))
def test_code_that_only_looks_alike_is_left_alone(tmp_path, code):
    for rule in ("C2-NORMALISED", "C2-TARGET-GATE", "C3-SCORE-BEFORE-UPDATE"):
        assert not found_in(tmp_path / rule, SCRIPT + code, rule)


LATER = '''import time
NAME = f"{"a" + f'{1}'} {x!r:>{width}}"
def known():
    return f"""{
        {"k": "}"}["k"]
    }"""
type Alias[T] = list[T]
def generic[T](x: T) -> T:
    return x
time.perf_counter = lambda: 0.0
'''


def test_code_of_a_later_python_is_read_as_far_as_this_one_can():
    found = unwrap(LATER)
    assert found.opaque == ""
    lines = {node.lineno for node in found.nodes if type(node).__name__ == "Assign"}
    assert {2, 10} <= lines


def test_what_is_no_python_is_opaque():
    assert "not parseable" in unwrap("}{ ??? ]\n").opaque
