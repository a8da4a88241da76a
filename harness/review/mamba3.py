"""Arithmetic of a Mamba-3 hybrid from the configuration that a text gives: rows of ``in_proj``, layers, parameters.

What a text leaves open is taken from the public baseline's blocks (8 heads, 4 KV heads, tied embedding, U-Net skips,
residual mixing); a parameter count that rests on such assumptions is never called wrong, only doubtful.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.review.number import Claim, read_numbers
from harness.review.readme import Document, Line, quote
from harness.rules import Verdict

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
        """Rows of ``in_proj`` by what they make. The first half of the state turns pairwise: one angle a pair."""
        streams = {"z": self.inner, "x": self.inner, "B": self.d_state, "C": self.d_state}
        return streams | dict.fromkeys(("dd_dt", "dd_A", "trap"), self.heads) | {"angles": self.d_state // 2 // 2}

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
    for line in document.lines:
        layers, blocks = _LAYERS.search(line.text), _BLOCKS.search(line.text)
        if layers and blocks:
            total = int(blocks[1]) + int(blocks[2])
            words = f"{blocks[1]} + {blocks[2]} = {total}"
            yield _equal(line.number, blocks[0], "number of layers", words, layers[1], total)
    block = read_configuration(text) if re.search(r"mamba-?3", text, re.IGNORECASE) else None
    if block is None:
        return
    counted = _counted(block, text)
    for line in document.lines:
        yield from _rows(document, line, block)
        for match in _PARAMS.finditer(line.text) if counted is not None else ():
            claimed = read_numbers((match[1] or match[2]).strip())
            if claimed and claimed[0].value >= 1e6:
                right = f"{counted:,}"
                message = f"{right} under the baseline's blocks (8 heads, 4 KV heads, tied embedding)"
                if claimed[0].admits(counted or 0, counted or 0):
                    yield Claim(line.number, match[0], "parameters", Verdict.PASS, message, claimed[0].text)
                else:
                    message += "; say what differs"
                    yield Claim(line.number, match[0], "parameters", Verdict.WARN, message, claimed[0].text, right)


def _equal(line: int, words: str, what: str, message: str, claimed: str, right: int) -> Claim:
    holds = int(claimed.replace(",", "")) == right
    verdict = Verdict.PASS if holds else Verdict.FAIL
    return Claim(line, words, what, verdict, message, claimed, "" if holds else str(right))


def read_configuration(text: str) -> Mamba3 | None:
    """The block that a text describes by dim, d_state, expand and headdim; ``None`` when one of them is missing."""
    names = (r"(?:MODEL_DIM|d_model|dim)", "d_state", "expand", r"head_?dim")
    found = [re.search(rf"(?<![\w.]){name}\s*[=:]\s*(\d+(?:\.\d+)?)", text, re.IGNORECASE) for name in names]
    dim, d_state, expand, headdim = (float(match[1]) if match else 0.0 for match in found)
    return Mamba3(int(dim), int(d_state), expand, int(headdim)) if dim and d_state and expand and headdim else None


def _rows(document: Document, line: Line, block: Mamba3) -> Iterator[Claim]:
    """ "32 of 2240 rows"; "in_proj has 2240 rows", "in_proj: 512 → 2240", "in_proj.weight (2240, 512)"."""
    near = " ".join(document.raw[max(0, line.number - 3) : line.number + 2])
    split = " + ".join(f"{name} {rows}" for name, rows in block.split.items()) + f" = {block.rows}"
    for match in _OF_ROWS.finditer(line.text) if "in_proj" in near else ():
        here = quote(line.text, next(q for q in line.numbers if q.start >= match.start()))
        yield _equal(line.number, here, "rows of in_proj", split, match[2], block.rows)
        named = [name for name in ("dd_dt", "dd_A", "trap", "angles") if re.search(rf"\b{name}\b", near)]
        part = sum(block.split[name] for name in named)
        if part and "heterogeneous" not in near:
            words = f"{block.heads} heads each: {part}"
            yield _equal(line.number, here, f"rows of {' and '.join(named)}", words, match[1], part)
    for match in _IN_PROJ.finditer(line.text):
        width = match["d1"] or match["d2"]
        if not re.search(r"\d+ of \d", match[0]) and (not width or int(width) == block.dim):
            claimed = match["a"] or match["b"] or match["c"]
            yield _equal(line.number, match[0], "rows of in_proj", split, claimed, block.rows)


def _counted(block: Mamba3, text: str) -> int | None:
    """All parameters of the hybrid that the text describes; ``None`` where it leaves too much open."""
    blocks = _BLOCKS.search(text)
    vocab = re.search(r"VOCAB_SIZE\s*=\s*(\d+)|\bSP(\d{4,5})\b", text)
    mlp = re.search(r"mlp_mult\s*=\s*(\d+)|MLP\s*(\d+)x", text, re.IGNORECASE)
    if not blocks or not vocab or not mlp:
        return None
    sizes = {"vocab": int(vocab[1] or vocab[2]), "mlp_mult": int(mlp[1] or mlp[2])}
    return hybrid_parameters(block, ssm=int(blocks[1]), attention=int(blocks[2]), **sizes)


def hybrid_parameters(block: Mamba3, *, ssm: int, attention: int, vocab: int, mlp_mult: int) -> int:
    """Parameters of a hybrid with tied embedding, an MLP a layer, residual mixing, scales and U-Net skips."""
    dim, layers, heads, kv_heads = block.dim, ssm + attention, 8, 4
    mixer = 2 * dim * dim + 2 * dim * kv_heads * (dim // heads) + heads
    a_layer = 2 * mlp_mult * dim * dim + 2 * dim + 2 * dim
    skips = min(layers // 2, layers - layers // 2) * dim
    return vocab * dim + ssm * block.parameters + attention * mixer + layers * a_layer + skips
