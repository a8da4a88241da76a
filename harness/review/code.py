"""Code, read and never run: evidence for a reviewer on what it would do (A1, A3 to A7, C1 to C4)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from harness.review.limits import model_and_code
from harness.review.record import Record
from harness.review.unwrap import Unwrapped, unwrap

_NOT_AT_EVAL = re.compile(
    r"prepare|download|tokeniz|export|build_|setup|launch|modal|plot|analy|human|readable|make_|test|sweep|cached_",
    re.I,
)
_SOURCES = (".cpp", ".cc", ".c", ".cu")
_NETWORK = re.compile(
    r"^(?:requests|urllib\.request|urllib3|httpx|aiohttp|http\.client|socket|ftplib|wandb|huggingface_hub|datasets|boto3)(?:\.|$)"
)
_FETCHERS = re.compile(
    r"(?:^|\.)(?:urlopen|urlretrieve|hf_hub_download|snapshot_download|load_dataset|load_state_dict_from_url)$"
)
_FETCHES = re.compile(r"\b(?:curl|wget|git clone|pip3? install|huggingface-cli)\b")
_CLOCKS = re.compile(
    r"^(?:time\.(?:time|perf_counter|monotonic|time_ns|perf_counter_ns|monotonic_ns|process_time)"
    r"|torch\.cuda\.(?:synchronize|Event))$"
)
_GATE = re.compile(
    r"^(?:alpha|gate|lam|lambda_|mix(?:ing)?_?(?:w|weight)?s?|blend\w*|weight_ng|w_ng|tilt|beta_t)$|_(?:gate|alpha|mix_weight)$"
)
_TARGET = re.compile(r"(?:^|_)(?:y|tgts?|targets?|gold|labels?|y_true|next_tok(?:en)?s?|answer)(?:_|$)")
_CACHE = re.compile(r"(?:^|_)(?:ngram|cache|ppm|count|counts|hist|freq|bigram_p|trigram)s?(?:_|$)")
_TRAIN_FILES = re.compile(r"train_?(?:files|pattern|glob|shards|data|paths)$")
_VAL = re.compile(r"^(?:val|valid|validation|eval)_?(?:tokens?|data|x|y|ids|batch|seqs?|docs|stream)\w*$")
_NUMBERS = re.compile(r"_(?:size|len|length|count|every|stride|files?|pattern|path|frac\w*|batch_seqs|batch_tokens)$")
"""Endings of settings, such as ``eval_seq_len`` and ``val_batch_tokens``: named like validation data, and none."""
_DATA = re.compile(r"^(?:tokens?|data|x|y|inputs?|targets?|ids|batch|seqs?|docs|stream)(?:_\w+)?$")
_WARM = re.compile(r"warm|compile|dummy", re.IGNORECASE)
_SUM = re.compile(r"(?:loss|nll|bits|nats|bpb|byte|token)_?(?:sum|total|count|acc\w*)?$|^total_(?:loss|nll|bits|nats)$")
_STRICT_SUM = re.compile(
    r"(?:loss|nll|bits|nats|bpb|byte|token)_?(?:sum|total|count|acc\w*)$|^total_(?:loss|nll|bits|nats)$"
)
_EVALUATES = re.compile(r"(?:^|_)(?:eval|score|evaluate|validate)(?:_|$)")
_OPTIMISERS = re.compile(r"^(?:Adam\w*|SGD|LBFGS|RMSprop|Muon|Lion)$")
_SCORE = re.compile(r"nll|loss|(?:^|_)ce(?:_|$)")
_BOUND = re.compile(r"cap|max|min|clip|limit|floor|bound|budget")
_HASH = re.compile(r"hash|(?:^|_)(?:keys?|ctx|buckets?)(?:_|$)")
_VAL_DOCS = re.compile(r"val[-_]docs\W{1,6}[^\n]{0,80}?(?:default\s*=\s*|=\s*)(10[_,]?000)\b")
_ENABLED = re.compile(r"(?:enabled|use|enable)\w*\W{1,4}(?:False|0)\b", re.IGNORECASE)
_BLOB = 100_000
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
MAX_FUNCTIONS = 60
"""Training functions looked at in a script; real ones have a handful."""


def check(record: Record) -> None:
    """Scan the training script and what it pulls in; say so where the code isn't here."""
    if record.main_code is None or record.main_code not in record.code:
        _absent(record)
        return
    reached = _reach(record)
    for name, script in reached.items():
        if script.tree is not None and not record.folder.late():
            _Scan(record, name, script).run()
    for name, data in record.code.items():
        if name.endswith(".py") and name not in reached:
            _preparation(record, name, data.decode("utf-8", "replace"))
    _uncounted(record, reached)


def _absent(record: Record) -> None:
    others = [n for n in record.folder.names if n.endswith((".py", *_SOURCES)) and n != record.main_code]
    likely = [n for n in others if not _NOT_AT_EVAL.search(n) and not n.startswith("train")]
    if likely and record.main_code:
        size = sum(record.folder.size_of(n) or 0 for n in likely)
        message = f"files beside the script may be needed at evaluation, uncounted: {', '.join(likely[:5])}."
        remedy = "Put the code into the counted script."
        record.out.warn("A3-NO-UNCOUNTED-CODE", message, likely[0], f"{size:,} bytes", "", remedy, "hint")
    record.out.unknown("A3-CODE-BYTES", "the code is not here: nothing can be said about what it does.")


def _reach(record: Record) -> dict[str, Unwrapped]:
    """The training script and every file of the folder that it executes or imports, unwrapped."""
    assert record.main_code is not None
    reached: dict[str, Unwrapped] = {}
    waiting = [record.main_code]
    while waiting and len(reached) < 12 and not record.folder.late():
        name = waiting.pop()
        if name in reached or name not in record.code:
            continue
        script = reached[name] = unwrap(record.code[name].decode("utf-8", "replace"), record.folder.late)
        if script.opaque:
            record.out.unknown("A3-CODE-BYTES", f"the code can't be read: {script.opaque}.", name)
        if name.endswith(".py"):
            waiting += [n.removeprefix("./") for n in script.executes]
            waiting += _local_imports(record, script)
    return reached


def _local_imports(record: Record, script: Unwrapped) -> list[str]:
    modules: list[str] = []
    for node in script.nodes:
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [node.module or "", *(f"{node.module or ''}.{alias.name}".lstrip(".") for alias in node.names)]
    paths = [module.replace(".", "/") for module in modules if module]
    return [n for path in paths for n in (f"{path}.py", f"{path}/__init__.py") if n in record.code]


def _uncounted(record: Record, reached: dict[str, Unwrapped]) -> None:
    rule, main = "A3-NO-UNCOUNTED-CODE", record.main_code
    assert main is not None
    beside = {name for name in reached if name != main}
    sources = [name for name in record.folder.names if name.endswith(_SOURCES)]
    beside |= {n for n in sources if any(n.rsplit("/", 1)[-1] in script.source for script in reached.values())}
    executed = {n.removeprefix("./") for script in reached.values() for n in script.executes}
    missing = sorted(executed - set(record.folder.names))
    if missing:
        message = f"the script executes files that are not in the folder: {', '.join(missing[:5])}."
        record.out.warn(rule, message, main, ", ".join(missing[:5]), "", "Ship and count them.")
    if not beside:
        if not missing:
            record.out.passed(rule, "the script imports and executes no other file of the folder.", main)
        return
    extra, cap = sum(record.folder.size_of(name) or 0 for name in beside), record.readings.artifact_cap_bytes
    totals = [int(run.total.value) for run in record.bound.sized if run.total]
    models = [int(model.value) for run in record.bound.sized if (model := model_and_code(run)[0])]
    shipped = (record.folder.size_of(main) or 0) + extra
    with_all = max(models) + shipped if models else max(totals, default=0) + extra
    report = record.out.fail if with_all > cap and executed & beside else record.out.warn
    computed = f"with them {with_all:,} bytes, cap {cap:,}" if with_all > extra else f"cap {cap:,} bytes"
    message = f"the script needs files that its size leaves out: {', '.join(sorted(beside)[:5])}."
    remedy = "Put them into the counted script."
    report(rule, message, sorted(beside)[0], f"{extra:,} bytes beside {main}", computed, remedy)


def _preparation(record: Record, name: str, source: str) -> None:
    """The default that puts validation documents into the train set (#2127), unless a command overrides it."""
    hit = _VAL_DOCS.search(source)
    if hit is None:
        return
    texts = [d.decode("utf-8", "replace") for n, d in record.code.items() if n.endswith(".sh")]
    texts += record.readme.raw if record.readme else []
    if any(re.search(r"--val[-_]docs[ =]+50[_,]?000\b", text) for text in [*texts, source]):
        return
    message = "the preparation holds out 10,000 documents by default; the split has 50,000 (#2127)."
    at, remedy = (name, source.count("\n", 0, hit.start()) + 1), "Set the default to 50,000."
    record.out.warn("A4-DISJOINT", message, at, hit[0][:120], "50,000", remedy, "likely")


def dotted(node: ast.AST) -> str:
    """Dotted name of a name or attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return ""


def _last(node: ast.AST) -> str:
    return dotted(node).rsplit(".", 1)[-1]


def _names(node: ast.AST) -> set[str]:
    """Every plain name and attribute name in an expression."""
    return {_last(n) for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)}


def _texts(node: ast.AST) -> list[str]:
    return [c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)]


@dataclass
class _Scan:
    """One script: every pattern that a reviewer should look at."""

    record: Record
    name: str
    script: Unwrapped

    def warn(self, rule: str, message: str, node: ast.AST | int, found: str, remedy: str, how: str = "likely") -> None:
        """A WARN at a node or line of the innermost source; lines of an unpacked script are not the file's."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 0)
        at = (self.name, 0 if self.script.layers else line)
        self.record.out.warn(rule, f"{message}.", at, found[:160], "", remedy, how)

    def run(self) -> None:
        """Look through every node once, then through functions and the text."""
        for node in self.script.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                for module in modules:
                    if _NETWORK.match(module):
                        self._network(node, f"import {module}")
            elif isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Assign):
                self._assign(node)
            elif isinstance(node, ast.For):
                self._temperatures(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and len(node.value) > _BLOB:
                remedy = "Say what it is; stored validation text is forbidden."
                size = f"{len(node.value):,} characters"
                self.warn("A4-PAID-PREFIX", "a large block of data stands in the code", node, size, remedy, "hint")
        self._functions()
        self._text()
        _preparation(self.record, self.name, self.script.source)

    def _network(self, node: ast.AST, found: str) -> None:
        remedy = "Move downloads into a preparation script."
        self.warn("A4-NO-NETWORK", "the script can reach the network", node, found, remedy)

    def _call(self, node: ast.Call) -> None:
        function = dotted(node.func)
        last = function.rsplit(".", 1)[-1]
        if _FETCHERS.search(function):
            self._network(node, f"{function}()")
        elif function.startswith("subprocess.") or function == "os.system":
            words = " ".join(_texts(node))
            if _FETCHES.search(words):
                self._network(node, words[:120])
        elif function == "setattr" and len(node.args) == 3 and isinstance(node.args[1], ast.Constant):
            if _CLOCKS.match(f"{dotted(node.args[0])}.{node.args[1].value!s}"):
                self._clock(node, ast.unparse(node)[:80])
        elif function == "min" and len(node.args) > 1:
            scores = [n for arg in node.args for n in _names(arg) if re.search(r"bpb|val_loss", n)]
            if len(scores) > 1:
                self._second(node, "the smaller of two scores is taken", ast.unparse(node))
        sides: list[ast.expr] = list(node.args[:2]) if last in ("minimum", "fmin") else []
        if last == "where" and node.args and isinstance(node.args[0], ast.Compare):
            sides = [node.args[0].left, node.args[0].comparators[0]]
        found = [{n for n in _names(side) if _SCORE.search(n)} for side in sides]
        bounded = any(_BOUND.search(n) for names in found for n in names)
        if len(found) == 2 and all(found) and found[0] != found[1] and not bounded:
            message = "the smaller of two losses is taken position by position: the choice knows the target (#659)"
            self.warn("C2-TARGET-GATE", message, node, ast.unparse(node), "Choose by the prefix, such as by entropy.")

    def _clock(self, node: ast.AST, found: str) -> None:
        at = (self.name, 0 if self.script.layers else getattr(node, "lineno", 0))
        message = "a clock or a synchronisation is replaced."
        self.record.out.fail("A1-CLOCK-PATCHED", message, at, found, "", "Leave it as it is.")

    def _second(self, node: ast.AST, message: str, found: str) -> None:
        message = f"{message}: the score is chosen with the answers known (#991)"
        self.warn("C4-SINGLE-PASS", message, node, found, "Fix the choice before scoring; score once.")

    def _assign(self, node: ast.Assign) -> None:
        value = node.value
        for target in node.targets:
            path, last = dotted(target), _last(target)
            if _CLOCKS.match(path):
                self._clock(node, f"{path} = …")
            if _TRAIN_FILES.search(last):
                self._train_files(node, value)
            used = sorted(n for n in _names(value) if _TARGET.search(n)) if _GATE.search(last) else []
            if used and isinstance(value, ast.Call | ast.BinOp | ast.Compare | ast.IfExp | ast.Subscript):
                message = f"the weight {last!r} is computed from {used[0]!r}, which looks like the target"
                self.warn("C2-TARGET-GATE", message, node, ast.unparse(value), "Compute it from the prefix.")
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            sides, names = (value.left, value.right), _names(value)
            caches = sorted(n for n in names if _CACHE.search(n))
            products = all(isinstance(side, ast.BinOp) and isinstance(side.op, ast.Mult) for side in sides)
            if products and caches and any(_TARGET.search(n) for n in names):
                message = f"a mixture with {caches[0]!r} is taken at the target only: nothing shows that it sums to one"
                remedy = "Mix whole distributions, then take the target."
                self.warn("C2-NORMALISED", message, node, ast.unparse(value), remedy)
        names = _names(value) | {n for target in node.targets for n in _names(target)}
        mixes = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitXor) for n in ast.walk(value))
        hashes = mixes and any(_HASH.search(n) for n in names)
        calls = [dotted(n.func) for n in ast.walk(value) if isinstance(n, ast.Call)]
        hashes |= isinstance(value, ast.Call) and any(re.search(r"hash(?!lib)", call) for call in calls)
        if hashes and any(_TARGET.search(n) for n in _names(value)):
            message = "counts are looked up under a hash that holds the target: a probability at the target only (#779)"
            remedy = "Compute the distribution over the whole vocabulary from the prefix, then take the target."
            self.warn("C2-NORMALISED", message, node, ast.unparse(node), remedy)

    def _train_files(self, node: ast.Assign, value: ast.expr) -> None:
        globs = [text.rsplit("/", 1)[-1] for text in _texts(value) if text.endswith(".bin") or "*" in text]
        if any(re.search(r"(?:^|_)val", text) and "train" not in text for text in globs):
            at = (self.name, 0 if self.script.layers else node.lineno)
            self.record.out.fail("A4-TRAIN-NO-VAL", "the train files are validation shards.", at, globs[0])
        elif any("*" in text and "train" not in text for text in globs):
            remedy = "Name the train shards, such as fineweb_train_*.bin."
            message = "the pattern of train files also fits validation shards"
            self.warn("A4-TRAIN-NO-VAL", message, node, globs[0], remedy)

    def _temperatures(self, node: ast.For) -> None:
        if re.search(r"temp|\bT\b|tau", ast.unparse(node.target)) and isinstance(
            node.iter, ast.List | ast.Tuple | ast.Call
        ):
            calls = [_last(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
            if hit := next((c for c in calls if _EVALUATES.search(c)), ""):
                self._second(node, f"{hit}() runs once for each temperature", ast.unparse(node.iter))

    def _functions(self) -> None:
        """Where validation tokens go: training before their score, last-epoch scores, fits to the scored window."""
        functions = [node for node in self.script.nodes if isinstance(node, _FUNCTIONS)]
        trained = [node for node in functions if _trains(list(ast.walk(node)))]
        names = {node.name for node in trained}
        given: dict[str, str] = {}
        for node in self.script.nodes if trained else ():
            if isinstance(node, ast.Call) and _last(node.func) in names:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                hit = next((n for value in values for n in sorted(_names(value)) if _is_val(n)), "")
                given.setdefault(_last(node.func), hit) if hit else None
        for node in trained[:MAX_FUNCTIONS]:
            self._training(node, given.get(node.name, ""), functions)
            own = list(_own(node))
            if _trains(own):
                self._last_epoch(own)
                self._fitted(node, own)

    def _training(self, node: _Function, given: str, functions: list[_Function]) -> None:
        inner = list(ast.walk(node))
        tainted = _tainted(node, inner, bool(given))
        val = given or next((n for n in sorted(tainted) if _is_val(n)), "")
        backward = min((n.lineno for n in inner if isinstance(n, ast.Call) and _trains_on(n, tainted)), default=0)
        scored = min(_accumulating(inner), default=0)
        if not val or not backward or (not scored and _scored_by_callers(node.name, functions)):
            return
        calls = [_last(n.func) for n in inner if isinstance(n, ast.Call)]
        harmless = any(c in ("randint", "rand_tokens", "random_tokens", "randint_like") for c in calls)
        if _WARM.search(node.name):
            restored = any(re.search(r"load_state_dict|restore|zero_grad|deepcopy|clone", c) for c in calls)
            if not harmless and not restored:
                message = f"{node.name}() trains on {val} while warming up"
                self.warn("A6-WARMUP-VAL", message, backward, "backward()", "Warm up on random tokens.")
        elif not scored:
            message = f"{node.name}() trains on {val} and scores nothing before"
            remedy = "Score each chunk under inference_mode before training on it."
            self.warn("A6-PREQUANT-TTT", message, backward, "backward(), no sum of losses without gradients", remedy)
        elif backward < scored:
            message = f"{node.name}() trains on {val} in an earlier line than it scores"
            found = f"backward() in line {backward}, score in line {scored}"
            self.warn("C3-SCORE-BEFORE-UPDATE", message, backward, found, "Score first.", "hint")

    def _last_epoch(self, own: list[ast.AST]) -> None:
        for item in own:
            if not (isinstance(item, ast.If) and isinstance(item.test, ast.Compare)):
                continue
            sides = [item.test.left, *item.test.comparators]
            last = any(isinstance(side, ast.BinOp) and isinstance(side.op, ast.Sub) for side in sides)
            inside = [n for statement in item.body for n in ast.walk(statement)]
            sums = any(isinstance(n, ast.AugAssign) and _STRICT_SUM.search(_last(n.target)) for n in inside)
            if last and sums and any("epoch" in n for n in _names(item.test)):
                message = (
                    "scores are summed in the last epoch only, when the model was trained on the same tokens (#568)"
                )
                remedy = "Score each token before the first step on it."
                self.warn("C3-SCORE-BEFORE-UPDATE", message, item, ast.unparse(item.test), remedy)
                return

    def _fitted(self, node: ast.FunctionDef | ast.AsyncFunctionDef, own: list[ast.AST]) -> None:
        """A fresh tensor is fitted by an optimiser of its own within one function that sees targets: SLOT."""
        fresh = {
            target.id
            for n in own
            if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) and _is_leaf(n.value)
            for target in n.targets
            if isinstance(target, ast.Name)
        }
        for n in own:
            if isinstance(n, ast.Call) and _OPTIMISERS.match(_last(n.func)) and n.args:
                fitted = sorted(fresh & _names(n.args[0]))
                if fitted and isinstance(n.args[0], ast.List | ast.Tuple):
                    message = f"{node.name}() fits {fitted[0]!r} to a window before it scores with it (SLOT, #1240)"
                    remedy = (
                        "Fit on tokens that are scored already; show by a flip test that no target moves its score."
                    )
                    self.warn("C3-SCORE-BEFORE-UPDATE", message, n, ast.unparse(n), remedy)
                    return

    def _text(self) -> None:
        source = self.script.source
        prefix = re.search(r"paid[-_ ]?prefix", source, re.IGNORECASE)
        if prefix and not _ENABLED.search(source[prefix.start() : prefix.start() + 60]):
            line, found = source.count("\n", 0, prefix.start()) + 1, source[prefix.start() :][:80].splitlines()[0]
            message = "the script can read stored validation text, which the rules ban by name"
            self.warn("A4-PAID-PREFIX", message, line, found, "Take it out.")
        smear = re.search(r"class Smear\w*\b", source)
        masked = r"bos|doc_start|cu_seqlens|doc_mask"
        if smear and not re.search(masked, source[smear.start() : smear.start() + 2_500], re.IGNORECASE):
            line = source.count("\n", 0, smear.start()) + 1
            message = "SmearGate mixes each token with the one before; no mask at document starts is seen (#1797)"
            self.warn("C1-DOCUMENTS", message, line, smear[0], "Mask the mix at BOS.", "hint")
        start = source.find("id_to_piece")
        if start < 0 or not re.search(r"encode\(", source[start : start + 3_000]):
            return
        region, line = source[max(0, start - 2_000) : start + 3_000], source.count("\n", 0, start) + 1
        doubled = re.search(r"replace\(\s*[\"'](?:\u2581|\\u2581)[\"']\s*,\s*[\"'] [\"']\s*\)", region)
        for wrong, what in (
            ("is_byte" not in region, "byte-fallback tokens are not counted as one byte (#1271)"),
            ("\u2581" not in region and "\\u2581" not in region, "U+2581 is not taken off the pieces (#897)"),
            (doubled and re.search(r"leading_space|has_space", region), "a leading space may be counted twice (#1719)"),
        ):
            if wrong:
                remedy = "Compare the table with decoded text."
                self.warn("A7-BYTE-TABLE", f"in the byte table, {what}", line, "id_to_piece … encode", remedy)


def _is_val(name: str) -> bool:
    return bool(_VAL.match(name)) and not _NUMBERS.search(name)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The function's own nodes, without those of functions inside it."""
    waiting = [node]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(child, _FUNCTIONS | ast.ClassDef):
                yield child
                waiting.append(child)


def _trains(nodes: list[ast.AST]) -> bool:
    calls = [n.func for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return any(call.attr == "backward" or dotted(call).endswith("autograd.grad") for call in calls)


def _trains_on(node: ast.AST, tainted: set[str]) -> bool:
    if not (tainted and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _trains([node])):
        return False
    return bool((_names(node.func.value) | {n for argument in node.args for n in _names(argument)}) & tainted)


def _tainted(node: ast.FunctionDef | ast.AsyncFunctionDef, inner: list[ast.AST], parameters: bool) -> set[str]:
    """Names whose values come from validation tokens; results of scoring functions and of ``len`` do not."""
    arguments = [arg.arg for arg in [*node.args.args, *node.args.kwonlyargs]]
    tainted = {n for n in _names(node) | set(arguments) if _is_val(n)}
    tainted |= {name for name in arguments if parameters and _DATA.search(name)}
    for _ in range(3 if tainted else 0):
        for item in inner:
            if isinstance(item, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.For):
                source = item.iter if isinstance(item, ast.For) else item.value
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                if source is not None and _names(source) & tainted and not _only_measures(source):
                    tainted |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return tainted


def _only_measures(value: ast.expr) -> bool:
    function = _last(value.func) if isinstance(value, ast.Call) else ""
    measures = ("len", "numel", "size", "int", "range", "load_validation_tokens")
    return bool(_EVALUATES.search(function)) or function in measures


def _accumulating(nodes: list[ast.AST]) -> set[int]:
    """First lines of the ``with`` blocks without gradients that add something to a sum of losses."""
    found = set()
    for item in nodes:
        contexts = [context.context_expr for context in item.items] if isinstance(item, ast.With) else []
        free = any(dotted(p).endswith(("inference_mode", "no_grad")) for c in contexts for p in ast.walk(c))
        if isinstance(item, ast.With) and free and any(_adds(n) for s in item.body for n in ast.walk(s)):
            found.add(item.lineno)
    return found


def _adds(node: ast.AST) -> bool:
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Add) and bool(_SUM.search(_last(node.target)))
    if isinstance(node, ast.Assign):
        return any(_SUM.search(_last(target)) for target in node.targets)
    return isinstance(node, ast.Call) and re.search(r"accum|score|add_$", dotted(node.func)) is not None


def _scored_by_callers(name: str, functions: list[ast.FunctionDef | ast.AsyncFunctionDef]) -> bool:
    """Whether every function that calls ``name`` adds to a sum of losses without gradients before it does."""
    found = False
    for node in functions:
        inner = list(ast.walk(node))
        lines = [n.lineno for n in inner if isinstance(n, ast.Call) and dotted(n.func) == name]
        if lines and min(_accumulating(inner), default=min(lines)) >= min(lines):
            return False
        found |= bool(lines)
    return found


def _is_leaf(call: ast.Call) -> bool:
    wanted = any(
        k.arg == "requires_grad" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )
    return wanted or dotted(call.func).endswith(("nn.Parameter", "requires_grad_"))
