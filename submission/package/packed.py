"""The packed model: integers and steps by tensor, the small tensors as floats, and the file they make.

``submission/ARTIFACT.md`` documents the file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.protocol.container import ContainerError, read_container, write_container

from ..config import Config
from ..model.hybrid import Hybrid
from .coder import CoderError
from .contexts import ROLES, row_groups, side_classes
from .grid import is_quantised
from .stream import SIDE_KINDS, pack_arrays, pack_codes, read_arrays, read_codes

FORMAT_VERSION = 2
META_BOUND = 4_000_000  # bytes of tables and small tensors beyond the model's own small tensors
_DELTA = struct.Struct("<d")
MAX_HEADER_BYTES = 1024
_SIDE_KINDS = tuple(k * len(ROLES) for k in range(SIDE_KINDS))  # classes and steps, of rows and of columns
CODERS = {False: "lzma", True: "range"}  # by whether there are steps


class ArtifactError(ValueError):
    """A model file that is damaged, of another version or of another configuration."""


@dataclass(frozen=True)
class Steps:
    """Step of integer (i, j): delta · 2^(rows_i/4) · 2^(columns_j/4); exponents int64 (R,) and (C,)."""

    delta: float
    rows: Tensor
    columns: Tensor


@dataclass(frozen=True)
class Matrix:
    """codes: int16 (R, C), with either scales, float32 (R,) that are exact in float16, or steps."""

    codes: Tensor
    scales: Tensor | None
    steps: Steps | None

    def weight(self) -> Tensor:
        """Float32 (R, C)."""
        if self.scales is not None:
            return self.codes.float() * self.scales[:, None]
        if self.steps is None:
            raise ValueError("a matrix has neither scales nor steps.")
        rows = self.steps.delta * power_of_quarter(self.steps.rows)
        return self.codes.float() * rows[:, None] * power_of_quarter(self.steps.columns)

    def cpu(self) -> Matrix:
        """The same on the CPU."""
        steps = self.steps and Steps(self.steps.delta, self.steps.rows.cpu(), self.steps.columns.cpu())
        return Matrix(self.codes.cpu(), None if self.scales is None else self.scales.cpu(), steps)


def power_of_quarter(exponents: Tensor) -> Tensor:
    """2^(e/4), computed in float64 and rounded to float32."""
    return torch.exp2(exponents.double() / 4).float()


@dataclass
class PackedModel:
    """matrices by tensor name; small: the other tensors, float32."""

    matrices: dict[str, Matrix]
    small: dict[str, Tensor]

    def weights(self) -> dict[str, Tensor]:
        """All tensors as float32, ready for ``load_state_dict``."""
        return {name: matrix.weight() for name, matrix in self.matrices.items()} | self.small

    def to_bytes(self, config: Config) -> bytes:
        """The model file: rows of given bits by LZMA, the rate–distortion grid by range coder."""
        stepped = any(m.steps is not None for m in self.matrices.values())
        header = {
            "version": FORMAT_VERSION,
            "vocab_size": config.vocab_size,
            "coder": CODERS[stepped],
            "steps": stepped,
        }
        meta = {"header.json": json.dumps(header, sort_keys=True).encode()}
        for name, tensor in self.small.items():
            meta[f"small/{name}"] = tensor.numpy().astype(_small_dtype(name, tensor.shape)).tobytes()
        for name, matrix in self.matrices.items():
            if matrix.scales is not None:
                meta[f"scales/{name}"] = matrix.scales.numpy().astype("<f2").tobytes()
                meta[f"codes/{name}"] = matrix.codes.numpy().astype("i1").tobytes()
            elif matrix.steps is not None:
                meta["delta"] = _DELTA.pack(matrix.steps.delta)
        if not stepped:
            return write_container(None, meta, codec="lzma" if config.use_lzma else "none")
        coded = self._coded(config)
        meta |= {name: coded.pop(name) for name in ("tables", "side.tables")}
        return write_container(None, coded | {"meta": write_container(None, meta, codec="lzma")}, codec="none")

    def _coded(self, config: Config) -> dict[str, bytes]:
        groups = [row_groups(name, len(m.codes), config) for name, m in self.matrices.items()]
        sides = [side_classes(m.codes) for m in self.matrices.values()]
        arrays = []
        for group, side, matrix in zip(groups, sides, self.matrices.values(), strict=True):
            assert matrix.steps is not None
            parts = (*side, matrix.steps.rows, matrix.steps.columns)
            arrays += [(kind + int(group[0]), part) for kind, part in zip(_SIDE_KINDS, parts, strict=True)]
        tables, stream = pack_arrays(arrays)
        sections = pack_codes([m.codes for m in self.matrices.values()], sides, groups)
        return sections | {"side.tables": tables, "side": stream}


def load_packed(data: bytes, config: Config) -> PackedModel:
    """Read a model file. Every size is checked against the configuration. Raises ``ArtifactError``."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Hybrid(config).named_parameters()}
    bound = 65536 + sum(4 * shape.numel() + 8 * (shape[0] + shape[-1]) for shape in shapes.values()) + META_BOUND
    try:
        sections = read_container(data, max_unpacked_bytes=bound)
        if "meta" in sections:
            sections |= read_container(sections.pop("meta"), max_unpacked_bytes=bound)
        header = _read_header(sections.pop("header.json"))
        return _load(sections, _checked_header(header, config), shapes, config)
    except (ContainerError, CoderError, KeyError, struct.error) as error:
        reason = f"section {error} is missing." if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"the model file is not usable: {reason}") from error


def _load(
    sections: dict[str, bytes], header: Mapping[str, object], shapes: Mapping[str, torch.Size], config: Config
) -> PackedModel:
    matrices = {name: shape for name, shape in shapes.items() if is_quantised(name, shape)}
    coded = _read_coded(sections, matrices, config) if header["steps"] else {}
    packed = PackedModel({}, {})
    delta = _delta(sections.pop("delta")) if header["steps"] else 0.0
    for name, shape in shapes.items():
        if name not in matrices:
            packed.small[name] = _take(sections, f"small/{name}", _small_dtype(name, shape), shape).float()
        elif header["steps"]:
            codes, rows, columns = coded[name]
            if max(int(rows.abs().max()), int(columns.abs().max())) > 400:
                raise ArtifactError(f"the steps of {name} are out of range.")
            packed.matrices[name] = Matrix(codes, None, Steps(delta, rows, columns))
        else:
            codes = _take(sections, f"codes/{name}", "i1", shape).to(torch.int16)
            packed.matrices[name] = Matrix(codes, _take(sections, f"scales/{name}", "<f2", shape[:1]).float(), None)
    if sections:
        raise ArtifactError(f"the model file has sections nobody asked for: {', '.join(sorted(sections)[:3])}.")
    if not all(bool(torch.isfinite(t).all()) for t in packed.weights().values()):
        raise ArtifactError("the model file holds NaN or infinite weights.")
    return packed


def _read_coded(
    sections: dict[str, bytes], matrices: Mapping[str, torch.Size], config: Config
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Integers and exponents of rows and columns, by name."""
    groups = [row_groups(name, shape[0], config) for name, shape in matrices.items()]
    wanted = [
        (kind + int(group[0]), shape[position % 2])
        for group, shape in zip(groups, matrices.values(), strict=True)
        for position, kind in enumerate(_SIDE_KINDS)
    ]
    arrays = iter(read_arrays(sections.pop("side.tables"), sections.pop("side"), wanted))
    parts = list(zip(arrays, arrays, arrays, arrays, strict=True))
    coded = {name: sections.pop(name) for name in ("tables", "codes", "raw")}
    codes = read_codes(coded, list(matrices.values()), [side[:2] for side in parts], groups)
    return {name: (c, *side[2:]) for name, c, side in zip(matrices, codes, parts, strict=True)}


def _read_header(data: bytes) -> object:
    if len(data) > MAX_HEADER_BYTES:
        raise ArtifactError(
            f"the model file's header.json has {len(data):,} bytes; at most {MAX_HEADER_BYTES:,} are read."
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of thousands of digits, deep nesting
        raise ArtifactError(f"the model file's header.json cannot be read: {error}") from error


def _checked_header(header: object, config: Config) -> Mapping[str, object]:
    if not isinstance(header, dict) or header.get("version") != FORMAT_VERSION:
        found = header.get("version") if isinstance(header, dict) else None
        newer = isinstance(found, int) and found > FORMAT_VERSION
        remedy = "Use the code that wrote it." if newer else "Package the checkpoint again."
        raise ArtifactError(f"the model file has format version {found}; this code reads {FORMAT_VERSION}. {remedy}")
    if header.get("vocab_size") != config.vocab_size:
        raise ArtifactError(f"the model file has {header.get('vocab_size')} tokens; VOCAB_SIZE is {config.vocab_size}.")
    steps = header.get("steps")
    if not isinstance(steps, bool) or header.get("coder") != CODERS[steps]:
        raise ArtifactError(
            f"the model file names coder {header.get('coder')!r} and steps {steps!r}, which do not go together."
        )
    return header


def _delta(data: bytes) -> float:
    value = float(_DELTA.unpack(data)[0])
    if not 0 < value < math.inf:
        raise ArtifactError("the model file's step is no positive number.")
    return value


def _take(sections: dict[str, bytes], name: str, dtype: str, shape: torch.Size) -> Tensor:
    data = sections.pop(name, None)
    wanted = shape.numel() * np.dtype(dtype).itemsize
    if data is None or len(data) != wanted:
        found = "nothing" if data is None else f"{len(data):,} bytes"
        raise ArtifactError(f"section {name} holds {found}; the configuration asks for {wanted:,} bytes.")
    return torch.from_numpy(np.frombuffer(data, dtype).reshape(tuple(shape)).copy())


def _small_dtype(name: str, shape: torch.Size) -> str:
    """Matrices of layers as float16; scales, gains, biases and skip weights as float32."""
    return "<f2" if name.endswith(".weight") and len(shape) == 2 else "<f4"
