"""Patterns in code that a reviewer should look at: clocks, network, stored data, globs, byte tables, gates."""

from __future__ import annotations

import ast
import re

from harness.public.record import Record
from harness.public.unwrap import Unwrapped

NETWORK = re.compile(
    r"^(?:requests|urllib\.request|urllib3|httpx|aiohttp|http\.client|socket|ftplib|wandb|huggingface_hub|datasets|boto3)(?:\.|$)"
)
FETCHERS = re.compile(
    r"(?:^|\.)(?:urlopen|urlretrieve|hf_hub_download|snapshot_download|load_dataset|load_state_dict_from_url)$"
)
CLOCKS = re.compile(
    r"^(?:time\.(?:time|perf_counter|monotonic|time_ns|perf_counter_ns|monotonic_ns|process_time)|torch\.cuda\.(?:synchronize|Event))$"
)
GATE = re.compile(
    r"^(?:alpha|gate|lam|lambda_|mix(?:ing)?_?(?:w|weight)?s?|blend\w*|weight_ng|w_ng|tilt|beta_t)$|_(?:gate|alpha|mix_weight)$"
)
TARGET = re.compile(r"^(?:y|tgt|tgts|target|targets|gold|label|labels|y_true|next_tok(?:en)?s?|answer)(?:_\w+)?$")
CACHE = re.compile(r"(?:^|_)(?:ngram|cache|ppm|count|counts|hist|freq|bigram_p|trigram)s?(?:_|$)")
TRAIN_FILES = re.compile(r"train_?(?:files|pattern|glob|shards|data|paths)$")
BLOB_BYTES = 100_000


def dotted(node: ast.AST) -> str:
    """Dotted name of a name or attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return ""


def names_in(node: ast.AST) -> set[str]:
    """Every plain name and attribute name in an expression."""
    return {
        n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)
    }


def scan(record: Record, name: str, script: Unwrapped) -> None:
    """Look through every node of a script's innermost source once."""
    assert script.tree is not None
    inside = script.layers > 0
    for node in script.nodes:
        line = 0 if inside else getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            _imports(record, name, node, line)
        elif isinstance(node, ast.Call):
            _calls(record, name, node, line)
        elif isinstance(node, ast.Assign):
            _assigns(record, name, node, line)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and len(node.value) > BLOB_BYTES:
            _blob(record, name, len(node.value), line)
    _byte_table(record, name, script.source)
    _smear(record, name, script.source)
    _paid_prefix(record, name, script.source)
    scan_preparation(record, name, script.source)


def scan_preparation(record: Record, name: str, source: str) -> None:
    """The default that puts validation documents into the train set (#2127)."""
    hit = re.search(r"val[-_]docs\W{1,6}[^\n]{0,80}?(?:default\s*=\s*|=\s*)(10[_,]?000)\b", source)
    if hit:
        record.out.warn(
            "A4-DISJOINT",
            "the preparation holds out 10,000 documents by default; the split has 50,000 (#2127).",
            file=name,
            line=source.count("\n", 0, hit.start()) + 1,
            found=hit[0][:120],
            computed="50,000",
            remedy="Set the default to 50,000.",
            confidence="likely",
        )


def _imports(record: Record, name: str, node: ast.Import | ast.ImportFrom, line: int) -> None:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for module in modules:
        if NETWORK.match(module):
            _network(record, name, line, f"import {module}")


def _network(record: Record, name: str, line: int, found: str) -> None:
    record.out.warn(
        "A4-NO-NETWORK",
        "the script can reach the network.",
        file=name,
        line=line,
        found=found,
        remedy="Move downloads into a preparation script.",
        confidence="likely",
    )


def _calls(record: Record, name: str, node: ast.Call, line: int) -> None:
    function = dotted(node.func)
    if FETCHERS.search(function):
        _network(record, name, line, f"{function}()")
    elif function.startswith("subprocess.") or function == "os.system":
        words = " ".join(
            str(c.value) for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)
        )
        if re.search(r"\b(?:curl|wget|git clone|pip3? install|huggingface-cli)\b", words):
            _network(record, name, line, words[:120])
    elif function == "setattr" and len(node.args) == 3 and isinstance(node.args[1], ast.Constant):
        target = f"{dotted(node.args[0])}.{node.args[1].value!s}"
        if CLOCKS.match(target):
            _clock(record, name, line, f"setattr({target})")


def _clock(record: Record, name: str, line: int, found: str) -> None:
    record.out.fail(
        "A1-CLOCK-PATCHED",
        "a clock or a synchronisation is replaced.",
        file=name,
        line=line,
        found=found,
        remedy="Leave it as it is.",
    )


def _assigns(record: Record, name: str, node: ast.Assign, line: int) -> None:
    for target in node.targets:
        path = dotted(target)
        if CLOCKS.match(path):
            _clock(record, name, line, f"{path} = …")
        last = path.rsplit(".", 1)[-1]
        if TRAIN_FILES.search(last):
            _train_files(record, name, node.value, line)
        if GATE.search(last) and isinstance(node.value, ast.Call | ast.BinOp | ast.Compare | ast.IfExp | ast.Subscript):
            _gate(record, name, last, node.value, line)
    _mixture(record, name, node, line)


def _train_files(record: Record, name: str, value: ast.expr, line: int) -> None:
    texts = [c.value for c in ast.walk(value) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
    globs = [text.rsplit("/", 1)[-1] for text in texts if text.endswith(".bin") or "*" in text]
    if any(re.search(r"(?:^|_)val", text) and "train" not in text for text in globs):
        record.out.fail(
            "A4-TRAIN-NO-VAL", "the train files are validation shards.", file=name, line=line, found=globs[0]
        )
    elif any("*" in text and "train" not in text for text in globs):
        record.out.warn(
            "A4-TRAIN-NO-VAL",
            "the pattern of train files also fits validation shards.",
            file=name,
            line=line,
            found=globs[0],
            remedy="Name the train shards, such as fineweb_train_*.bin.",
            confidence="likely",
        )


def _gate(record: Record, name: str, gate: str, value: ast.expr, line: int) -> None:
    used = sorted(n for n in names_in(value) if TARGET.match(n))
    if used:
        record.out.warn(
            "C2-TARGET-GATE",
            f"the weight {gate!r} is computed from {used[0]!r}, which looks like the target.",
            file=name,
            line=line,
            found=ast.unparse(value)[:160],
            remedy="Compute it from the prefix.",
            confidence="likely",
        )


def _mixture(record: Record, name: str, node: ast.Assign, line: int) -> None:
    value = node.value
    if not (isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add)):
        return
    sides = [value.left, value.right]
    if not all(isinstance(side, ast.BinOp) and isinstance(side.op, ast.Mult) for side in sides):
        return
    names = names_in(value)
    caches = [n for n in names if CACHE.search(n)]
    if caches and any(TARGET.match(n) for n in names):
        record.out.warn(
            "C2-NORMALISED",
            f"a mixture with {caches[0]!r} is taken at the target only: nothing shows that it sums to one.",
            file=name,
            line=line,
            found=ast.unparse(value)[:160],
            remedy="Mix whole distributions, then take the target.",
            confidence="likely",
        )


def _blob(record: Record, name: str, size: int, line: int) -> None:
    record.out.warn(
        "A4-PAID-PREFIX",
        "a large block of data stands in the code.",
        file=name,
        line=line,
        found=f"{size:,} characters",
        remedy="Say what it is; stored validation text is forbidden.",
        confidence="hint",
    )


def _paid_prefix(record: Record, name: str, source: str) -> None:
    hit = re.search(r"paid[-_ ]?prefix", source, re.IGNORECASE)
    if hit:
        record.out.warn(
            "A4-PAID-PREFIX",
            "the script can read stored validation text, which the rules ban by name.",
            file=name,
            line=source.count("\n", 0, hit.start()) + 1,
            found=source[hit.start() : hit.start() + 80].splitlines()[0],
            remedy="Take it out.",
            confidence="likely",
        )


def _byte_table(record: Record, name: str, source: str) -> None:
    start = source.find("id_to_piece")
    if start < 0 or not re.search(r"encode\(", source[start : start + 3_000]):
        return
    region, line = source[max(0, start - 2_000) : start + 3_000], source.count("\n", 0, start) + 1
    if "is_byte" not in region:
        _table(record, name, line, "byte-fallback tokens are not counted as one byte (#1271)")
    mark = "\u2581" in region or "\\u2581" in region
    if not mark:
        _table(record, name, line, "U+2581 is not taken off the pieces (#897)")
    doubled = re.search(r"replace\(\s*[\"'](?:\u2581|\\u2581)[\"']\s*,\s*[\"'] [\"']\s*\)", region)
    if doubled and re.search(r"(?:leading_space|has_space)", region):
        _table(record, name, line, "a leading space may be counted twice (#1719)")


def _table(record: Record, name: str, line: int, message: str) -> None:
    record.out.warn(
        "A7-BYTE-TABLE",
        f"in the byte table, {message}.",
        file=name,
        line=line,
        found="id_to_piece … encode",
        remedy="Compare the table with decoded text.",
        confidence="likely",
    )


def _smear(record: Record, name: str, source: str) -> None:
    hit = re.search(r"class Smear\w*\b", source)
    if hit and not re.search(
        r"bos|doc_start|cu_seqlens|doc_mask", source[hit.start() : hit.start() + 2_500], re.IGNORECASE
    ):
        record.out.warn(
            "C1-DOCUMENTS",
            "SmearGate mixes each token with the one before; no mask at document starts is seen (#1797).",
            file=name,
            line=source.count("\n", 0, hit.start()) + 1,
            found=hit[0],
            remedy="Mask the mix at BOS.",
            confidence="hint",
        )
