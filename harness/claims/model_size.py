"""Arithmetic of a Mamba-3 hybrid from the configuration that a text gives: rows of ``in_proj``, layers, parameters.

What a text leaves open is taken from the public baseline's blocks (8 heads, 4 KV heads, tied embedding, U-Net skips,
residual mixing); a parameter count that rests on such assumptions is never called wrong, only doubtful.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.claims.claim import Claim, disputed, failed, passed
from harness.claims.document import Document, Line, quote
from harness.claims.quantity import read_quantities

ROPE_FRACTION = 0.5
"""Mamba-3 turns the first half of the state pairwise: one angle a pair."""
_OF_ROWS = re.compile(r"(\d+) of (\d[\d,]*)(?: rows)?(?=[^.;]*(?:per|SSM|block|in_proj)|\))", re.IGNORECASE)
_IN_PROJ = re.compile(
    r"in_proj\b[^.;]{0,50}?\b(?P<a>\d{1,3},\d{3}|\d{3,6}) (?:output )?rows"
    r"|in_proj\b[^.;]{0,30}?(?P<d1>\d{2,5})\s*(?:→|->)\s*(?P<b>\d{3,6})"
    r"|in_proj\b[^.;]{0,30}?[(\[](?P<c>\d{3,6}), ?(?P<d2>\d{2,5})[)\]]"
)
_PARAMS = re.compile(
    r"(~?\s?\d[\d,.]*\s?[MK]?)\s*(?:model )?param(?:eter)?s?\b|param(?:eter)?s?[\s:=|*]+(\d[\d,.]*\s?M?)", re.IGNORECASE
)
_LAYERS = re.compile(r"(\d+)[- ]layer\b", re.IGNORECASE)
_BLOCKS = re.compile(r"(\d+) (?:SSM|Mamba(?:-3)?)[^+,.;]{0,12}\+ (\d+) (?:Flash)?\s?att(?:entio)?n", re.IGNORECASE)


@dataclass(frozen=True)
class Mamba3:
    """The sizes that fix one Mamba-3 block: widths and counts, all >= 1."""

    dim: int
    d_state: int
    expand: float
    headdim: int

    @property
    def inner(self) -> int:
        """Width of the value stream."""
        return round(self.expand * self.dim)

    @property
    def heads(self) -> int:
        """SSM heads."""
        return self.inner // self.headdim

    @property
    def split(self) -> dict[str, int]:
        """Rows of ``in_proj`` by what they make."""
        angles = int(self.d_state * ROPE_FRACTION) // 2
        return {
            "z": self.inner,
            "x": self.inner,
            "B": self.d_state,
            "C": self.d_state,
            "dd_dt": self.heads,
            "dd_A": self.heads,
            "trap": self.heads,
            "angles": angles,
        }

    @property
    def rows(self) -> int:
        """All rows of ``in_proj``."""
        return sum(self.split.values())

    @property
    def parameters(self) -> int:
        """One mixer: projections, dt bias, norms and biases of B and C, D."""
        own = self.heads + 2 * self.d_state + 2 * self.heads * self.d_state + self.heads
        return self.rows * self.dim + self.dim * self.inner + own


def check_model_size(document: Document) -> Iterator[Claim]:
    """Row counts, block counts and parameter counts of a text about a Mamba-3 hybrid."""
    text = "\n".join(document.raw)
    yield from _block_sums(document)
    if not re.search(r"mamba-?3", text, re.IGNORECASE):
        return
    block = read_configuration(text)
    if block is None:
        return
    counted = _counted(block, text)
    for line in document.lines:
        yield from _rows(document, line, block)
        yield from _whole_projection(line, block)
        yield from _parameters(line, counted)


def read_configuration(text: str) -> Mamba3 | None:
    """The block that a text describes by dim, d_state, expand and headdim; ``None`` when one of them is missing."""
    dim = _number(text, r"(?:MODEL_DIM|d_model|dim)")
    d_state = _number(text, r"d_state")
    expand = _number(text, r"expand")
    headdim = _number(text, r"head_?dim")
    if not dim or not d_state or not expand or not headdim:
        return None
    return Mamba3(int(dim), int(d_state), expand, int(headdim))


def _number(text: str, name: str) -> float | None:
    found = re.findall(rf"(?<![\w.]){name}\s*[=:]\s*(\d+(?:\.\d+)?)", text, re.IGNORECASE)
    return float(found[0]) if found else None


def _rows(document: Document, line: Line, block: Mamba3) -> Iterator[Claim]:
    near = " ".join(document.raw[max(0, line.number - 3) : line.number + 2])
    if "in_proj" not in near:
        return
    for match in _OF_ROWS.finditer(line.text):
        here = quote(line.text, next(q for q in line.quantities if q.start >= match.start()))
        split = " + ".join(f"{name} {rows}" for name, rows in block.split.items())
        total = int(match[2].replace(",", ""))
        if total == block.rows:
            yield passed(line.number, here, "rows of in_proj", f"{split} = {block.rows}", match[2])
        else:
            text = f"{split} = {block.rows}"
            yield failed(line.number, here, "rows of in_proj", text, match[2], str(block.rows))
        named = [name for name in block.split if len(name) > 1 and re.search(rf"\b{name}\b", near)]
        named = [name for name in named if name in ("dd_dt", "dd_A", "trap", "angles")]
        part = sum(block.split[name] for name in named)
        if named and part and "heterogeneous" not in near:
            what = f"rows of {' and '.join(named)}"
            if int(match[1]) == part:
                yield passed(line.number, here, what, f"{block.heads} heads each: {part}", match[1])
            else:
                yield failed(line.number, here, what, f"{block.heads} heads each: {part}", match[1], str(part))


def _whole_projection(line: Line, block: Mamba3) -> Iterator[Claim]:
    """ "in_proj has 2240 rows", "in_proj: 512 → 2240", "in_proj.weight (2240, 512)"."""
    for match in _IN_PROJ.finditer(line.text):
        width = match["d1"] or match["d2"]
        if re.search(r"\d+ of \d", match[0]) or (width and int(width) != block.dim):
            continue
        claimed = match["a"] or match["b"] or match["c"]
        text = " + ".join(f"{name} {rows}" for name, rows in block.split.items()) + f" = {block.rows}"
        if int(claimed.replace(",", "")) == block.rows:
            yield passed(line.number, match[0], "rows of in_proj", text, claimed)
        else:
            yield failed(line.number, match[0], "rows of in_proj", text, claimed, str(block.rows))


def _block_sums(document: Document) -> Iterator[Claim]:
    for line in document.lines:
        layers, blocks = _LAYERS.search(line.text), _BLOCKS.search(line.text)
        if not layers or not blocks:
            continue
        total = int(blocks[1]) + int(blocks[2])
        if total == int(layers[1]):
            yield passed(line.number, blocks[0], "number of layers", f"{blocks[1]} + {blocks[2]} = {total}", layers[1])
        else:
            text = f"{blocks[1]} + {blocks[2]} = {total}"
            yield failed(line.number, blocks[0], "number of layers", text, layers[1], str(total))


def _counted(block: Mamba3, text: str) -> int | None:
    """All parameters of the hybrid that the text describes; ``None`` where it leaves too much open."""
    blocks = _BLOCKS.search(text)
    vocab = re.search(r"VOCAB_SIZE\s*=\s*(\d+)|\bSP(\d{4,5})\b", text)
    mlp = re.search(r"mlp_mult\s*=\s*(\d+)|MLP\s*(\d+)x", text, re.IGNORECASE)
    if not blocks or not vocab or not mlp:
        return None
    return hybrid_parameters(
        block,
        ssm=int(blocks[1]),
        attention=int(blocks[2]),
        vocab=int(vocab[1] or vocab[2]),
        mlp_mult=int(mlp[1] or mlp[2]),
    )


def _parameters(line: Line, counted: int | None) -> Iterator[Claim]:
    if counted is None:
        return
    for match in _PARAMS.finditer(line.text):
        claimed = read_quantities((match[1] or match[2]).strip())
        if not claimed or claimed[0].value < 1e6:
            continue
        right = f"{counted:,}"
        if claimed[0].admits(counted, counted):
            message = f"{right} under the baseline's blocks (8 heads, 4 KV heads, tied embedding)"
            yield passed(line.number, match[0], "parameters", message, claimed[0].text)
        else:
            message = f"{right} under the baseline's blocks (8 heads, 4 KV heads, tied embedding); say what differs"
            yield disputed(line.number, match[0], "parameters", message, claimed[0].text, right)


def hybrid_parameters(
    block: Mamba3, *, ssm: int, attention: int, vocab: int, mlp_mult: int, heads: int = 8, kv_heads: int = 4
) -> int:
    """Parameters of a hybrid with tied embedding, an MLP a layer, residual mixing, scales and U-Net skips."""
    dim, layers = block.dim, ssm + attention
    head = dim // heads
    mixer = 2 * dim * dim + 2 * dim * kv_heads * head + heads
    a_layer = 2 * mlp_mult * dim * dim + 2 * dim + 2 * dim
    skips = min(layers // 2, layers - layers // 2) * dim
    return vocab * dim + ssm * block.parameters + attention * mixer + layers * a_layer + skips
