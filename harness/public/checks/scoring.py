"""How code takes its scores: in a last epoch, after a fit to the window, the better of two, at the target only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from harness.public.checks.patterns import dotted, names_in
from harness.public.record import Record
from harness.public.unwrap import Unwrapped

SUM = re.compile(r"(?:loss|nll|bits|nats|bpb|byte|token)_?(?:sum|total|count|acc\w*)$|^total_(?:loss|nll|bits|nats)$")
OPTIMISERS = re.compile(r"^(?:Adam\w*|SGD|LBFGS|RMSprop|Muon|Lion)$")
SCORE = re.compile(r"nll|loss|(?:^|_)ce(?:_|$)")
BOUND = re.compile(r"cap|max|min|clip|limit|floor|bound|budget")
TARGET = re.compile(r"(?:^|_)(?:y|tgts?|targets?|gold|labels?)(?:_|$)")
HASH = re.compile(r"hash|(?:^|_)(?:keys?|ctx|buckets?)(?:_|$)")


def scan(record: Record, name: str, script: Unwrapped) -> None:
    """Look at every function and expression of the innermost source; at most one finding a kind and function."""
    inside = script.layers > 0
    for node in script.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            _last_epoch(record, name, node, inside)
            _fitted(record, name, node, inside)
    _better_of_two(record, name, script.nodes, inside)
    _target_in_hash(record, name, script.nodes, inside)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The function's own nodes, without those of functions inside it."""
    waiting = [node]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield child
                waiting.append(child)


def _trains(nodes: list[ast.AST]) -> bool:
    calls = [n.func for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return any(call.attr == "backward" or dotted(call).endswith("autograd.grad") for call in calls)


def _last_epoch(record: Record, name: str, node: ast.AST, inside: bool) -> None:
    nodes = list(_walk(node))
    if not _trains(nodes):
        return
    for item in nodes:
        if not (isinstance(item, ast.If) and isinstance(item.test, ast.Compare)):
            continue
        compared = [item.test.left, *item.test.comparators]
        last = any(isinstance(side, ast.BinOp) and isinstance(side.op, ast.Sub) for side in compared)
        if last and any("epoch" in n for n in names_in(item.test)) and _sums(item.body):
            _warn(
                record,
                "C3-SCORE-BEFORE-UPDATE",
                "scores are summed in the last epoch only, when the model has been trained on the same tokens (#568)",
                name,
                0 if inside else item.lineno,
                ast.unparse(item.test),
                "Score each token before the first step on it.",
            )
            return


def _sums(body: list[ast.stmt]) -> bool:
    return any(
        isinstance(n, ast.AugAssign) and isinstance(n.op, ast.Add) and SUM.search(dotted(n.target).rsplit(".", 1)[-1])
        for statement in body
        for n in ast.walk(statement)
    )


def _fitted(record: Record, name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, inside: bool) -> None:
    """A fresh tensor is fitted by an optimiser of its own within one function that sees targets: SLOT."""
    nodes = list(_walk(node))
    if not _trains(nodes):
        return
    fresh = {
        target.id
        for n in nodes
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) and _is_leaf(n.value)
        for target in n.targets
        if isinstance(target, ast.Name)
    }
    for n in nodes:
        if isinstance(n, ast.Call) and OPTIMISERS.match(dotted(n.func).rsplit(".", 1)[-1]) and n.args:
            fitted = sorted(fresh & names_in(n.args[0]))
            if fitted and isinstance(n.args[0], ast.List | ast.Tuple):
                _warn(
                    record,
                    "C3-SCORE-BEFORE-UPDATE",
                    f"{node.name}() fits {fitted[0]!r} to a window before it scores with it (SLOT, #1240)",
                    name,
                    0 if inside else n.lineno,
                    ast.unparse(n),
                    "Fit on tokens that are scored already; show by a flip test that no target moves its own score.",
                )
                return


def _is_leaf(call: ast.Call) -> bool:
    wanted = any(
        k.arg == "requires_grad" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )
    return wanted or dotted(call.func).endswith(("nn.Parameter", "requires_grad_"))


def _better_of_two(record: Record, name: str, nodes: list[ast.AST], inside: bool) -> None:
    for node in nodes:
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        function = dotted(node.func).rsplit(".", 1)[-1]
        sides: list[ast.expr] = list(node.args[:2]) if function in ("minimum", "fmin") else []
        if function == "where" and isinstance(node.args[0], ast.Compare):
            sides = [node.args[0].left, node.args[0].comparators[0]]
        found = [{n for n in names_in(side) if SCORE.search(n)} for side in sides]
        bounded = any(BOUND.search(n) for names in found for n in names)
        if len(found) == 2 and all(found) and found[0] != found[1] and not bounded:
            _warn(
                record,
                "C2-TARGET-GATE",
                "the smaller of two losses is taken position by position: the choice knows the target (#659)",
                name,
                0 if inside else node.lineno,
                ast.unparse(node),
                "Choose by the prefix, such as by entropy.",
            )
            return


def _target_in_hash(record: Record, name: str, nodes: list[ast.AST], inside: bool) -> None:
    for node in nodes:
        if not isinstance(node, ast.Assign):
            continue
        names = names_in(node.value) | {n for target in node.targets for n in names_in(target)}
        mixes = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitXor) for n in ast.walk(node.value))
        call = node.value.func if isinstance(node.value, ast.Call) else None
        hashes = mixes and any(HASH.search(n) for n in names)
        hashes |= call is not None and any(
            isinstance(n, ast.Call) and re.search(r"hash(?!lib)", dotted(n.func)) for n in ast.walk(node.value)
        )
        if hashes and any(TARGET.search(n) for n in names_in(node.value)):
            _warn(
                record,
                "C2-NORMALISED",
                "counts are looked up under a hash that holds the target: a probability at the target only (#779)",
                name,
                0 if inside else node.lineno,
                ast.unparse(node),
                "Compute the distribution over the whole vocabulary from the prefix, then take the target.",
            )
            return


def _warn(record: Record, rule: str, message: str, file: str, line: int, found: str, remedy: str) -> None:
    record.out.warn(rule, f"{message}.", file=file, line=line, found=found[:160], remedy=remedy, confidence="likely")
