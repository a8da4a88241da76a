"""Where validation tokens go in the code: training before their score, second passes, choices after the score."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from harness.public.checks.patterns import dotted, names_in
from harness.public.record import Record
from harness.public.unwrap import Unwrapped

VAL = re.compile(r"^(?:val|valid|validation|eval)_?(?:tokens?|data|x|y|ids|batch|seqs?|docs|stream)\w*$")
NUMBERS = re.compile(r"_(?:size|len|length|count|every|stride|files?|pattern|path|frac\w*|batch_seqs|batch_tokens)$")
"""Endings of settings, such as ``eval_seq_len`` and ``val_batch_tokens``: named like validation data, and none."""
DATA = re.compile(r"^(?:tokens?|data|x|y|inputs?|targets?|ids|batch|seqs?|docs|stream)(?:_\w+)?$")
TRAINS = re.compile(r"\bbackward\b|\bautograd\b")
WARM = re.compile(r"warm|compile|dummy", re.IGNORECASE)
SCORING = re.compile(r"(?:loss|nll|bits|nats|bpb)_?(?:sum|total|acc\w*)?$|^total_(?:loss|nll|bits|nats)$")
MAX_FUNCTIONS = 60
"""Training functions looked at in a script; real ones have a handful."""
EVALUATES = re.compile(r"(?:^|_)(?:eval|score|evaluate|validate)(?:_|$)")


@dataclass
class _Function:
    """One function: does it see validation tokens, where is its first ``backward``, where its first score."""

    node: ast.FunctionDef
    val: str = ""
    backward: int = 0
    scored: int = 0
    random: bool = False


def _is_val(name: str) -> bool:
    return bool(VAL.match(name)) and not NUMBERS.search(name)


def scan(record: Record, name: str, script: Unwrapped) -> None:
    """Judge every function of the innermost source, and how scores are chosen."""
    assert script.tree is not None
    inside = script.layers > 0
    training = [number for number, line in enumerate(script.source.splitlines(), 1) if TRAINS.search(line)]
    functions = [node for node in script.nodes if isinstance(node, ast.FunctionDef)]
    trained = [f for f in functions if any(f.lineno <= line <= (f.end_lineno or f.lineno) for line in training)]
    given = _called_with_validation(script.nodes, {node.name for node in trained})
    for item in (_summary(node, given.get(node.name, "")) for node in trained[:MAX_FUNCTIONS]):
        if item.val and item.backward and (item.scored or not _scored_by_callers(item.node.name, functions)):
            _training(record, name, item, inside)
    _choices(record, name, script.nodes, inside)


def _scored_by_callers(name: str, functions: list[ast.FunctionDef]) -> bool:
    """Whether every function that calls ``name`` adds to a sum of losses without gradients before it does."""
    found = False
    for node in functions:
        lines = [n.lineno for n in ast.walk(node) if isinstance(n, ast.Call) and dotted(n.func) == name]
        if not lines:
            continue
        found = True
        scored = _accumulating(list(ast.walk(node)))
        if min(scored, default=min(lines)) >= min(lines):
            return False
    return found


def _summary(node: ast.FunctionDef, given: str) -> _Function:
    """``given`` names validation tokens that a caller hands over to one of the parameters."""
    found = _Function(node)
    inner = list(ast.walk(node))
    tainted = _tainted(node, inner, bool(given))
    if not tainted:
        return found
    found.val = given or next((n for n in sorted(tainted) if _is_val(n)), "")
    for item in inner:
        if not isinstance(item, ast.Call):
            continue
        function, line = dotted(item.func), item.lineno
        if function.endswith(("backward", "autograd.grad")) and isinstance(item.func, ast.Attribute):
            used = names_in(item.func.value) | {n for argument in item.args for n in names_in(argument)}
            if used & tainted and (not found.backward or line < found.backward):
                found.backward = line
        found.random |= function.endswith(("randint", "rand_tokens", "random_tokens"))
    found.scored = min(_accumulating(inner), default=0)
    return found


def _tainted(node: ast.FunctionDef, inner: list[ast.AST], parameters: bool) -> set[str]:
    """Names whose values come from validation tokens; results of scoring functions and of ``len`` do not."""
    names = {n.id if isinstance(n, ast.Name) else n.attr for n in inner if isinstance(n, ast.Name | ast.Attribute)}
    tainted = {n for n in names if _is_val(n)}
    tainted |= {arg.arg for arg in [*node.args.args, *node.args.kwonlyargs] if _is_val(arg.arg)}
    if parameters:
        tainted |= {arg.arg for arg in node.args.args if DATA.search(arg.arg)}
    for _ in range(3 if tainted else 0):
        for item in inner:
            if isinstance(item, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.For) and (
                source := item.iter if isinstance(item, ast.For) else item.value
            ):
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                if names_in(source) & tainted and not _only_measures(source):
                    tainted |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return tainted


def _only_measures(value: ast.expr) -> bool:
    function = dotted(value.func).rsplit(".", 1)[-1] if isinstance(value, ast.Call) else ""
    return bool(EVALUATES.search(function)) or function in (
        "len",
        "numel",
        "size",
        "int",
        "range",
        "load_validation_tokens",
    )


def _accumulating(nodes: list[ast.AST]) -> set[int]:
    """First lines of the ``with`` blocks without gradients that add something to a sum of losses."""
    return {
        item.lineno
        for item in nodes
        if isinstance(item, ast.With)
        and any(
            isinstance(part, ast.Name | ast.Attribute) and dotted(part).endswith(("inference_mode", "no_grad"))
            for context in item.items
            for part in ast.walk(context.context_expr)
        )
        and any(_adds(inner) for statement in item.body for inner in ast.walk(statement))
    }


def _adds(node: ast.AST) -> bool:
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Add) and _is_sum(node.target)
    if isinstance(node, ast.Assign):
        return any(_is_sum(target) for target in node.targets)
    return isinstance(node, ast.Call) and re.search(r"accum|score|add_$", dotted(node.func)) is not None


def _is_sum(target: ast.expr) -> bool:
    return SCORING.search(dotted(target).rsplit(".", 1)[-1]) is not None


def _called_with_validation(nodes: list[ast.AST], functions: set[str]) -> dict[str, str]:
    tainted: dict[str, str] = {}
    for node in nodes if functions else ():
        if isinstance(node, ast.Call) and (function := dotted(node.func).rsplit(".", 1)[-1]) in functions:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            hit = next((n for value in values for n in sorted(names_in(value)) if _is_val(n)), "")
            if hit:
                tainted.setdefault(function, hit)
    return tainted


def _training(record: Record, name: str, item: _Function, inside: bool) -> None:
    function = item.node.name
    line = 0 if inside else item.backward
    if WARM.search(function):
        if not item.random:
            record.out.warn(
                "A6-WARMUP-VAL",
                f"{function}() trains on {item.val} while warming up.",
                file=name,
                line=line,
                found="backward()",
                remedy="Warm up on random tokens.",
                confidence="likely",
            )
        return
    if not item.scored:
        record.out.warn(
            "A6-PREQUANT-TTT",
            f"{function}() trains on {item.val} and scores nothing before.",
            file=name,
            line=line,
            found="backward()",
            computed="no sum of losses under no_grad or inference_mode",
            remedy="Score each chunk under inference_mode before training on it.",
            confidence="likely",
        )
    elif item.backward < item.scored:
        record.out.warn(
            "C3-SCORE-BEFORE-UPDATE",
            f"{function}() trains on {item.val} in an earlier line than it scores.",
            file=name,
            line=line,
            found=f"backward() in line {item.backward}",
            computed=f"score in line {item.scored}",
            remedy="Score first.",
            confidence="hint",
        )


def _choices(record: Record, name: str, nodes: list[ast.AST], inside: bool) -> None:
    for node in nodes:
        line = 0 if inside else getattr(node, "lineno", 0)
        if isinstance(node, ast.Call) and dotted(node.func) == "min" and len(node.args) > 1:
            scores = [n for arg in node.args for n in names_in(arg) if re.search(r"bpb|val_loss", n)]
            if len(scores) > 1:
                _second(record, name, line, "the smaller of two scores is taken", ast.unparse(node))
        if isinstance(node, ast.For) and re.search(r"temp|\bT\b|tau", ast.unparse(node.target)):
            calls = [dotted(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
            hit = next((c for c in calls if EVALUATES.search(c.rsplit(".", 1)[-1])), "")
            if hit and isinstance(node.iter, ast.List | ast.Tuple | ast.Call):
                _second(record, name, line, f"{hit}() runs once for each temperature", ast.unparse(node.iter))


def _second(record: Record, name: str, line: int, message: str, found: str) -> None:
    record.out.warn(
        "C4-SINGLE-PASS",
        f"{message}: the score is chosen with the answers known (#991).",
        file=name,
        line=line,
        found=found[:160],
        remedy="Fix the choice before scoring; score once.",
        confidence="likely",
    )
