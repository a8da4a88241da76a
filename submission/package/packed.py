"""The packed model: integers and scales by tensor, the small tensors as floats, and the file they make.

``submission/ARTIFACT.md`` documents the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.protocol.container import ContainerError, read_container, write_container

from ..config import Config
from ..model.hybrid import Hybrid
from .grid import is_quantised

FORMAT_VERSION = 1


class ArtifactError(ValueError):
    """A model file that is damaged, of another version or of another configuration."""


@dataclass
class PackedModel:
    """codes: int8 (rows, columns) and scales: float32 (rows,) by tensor name; small: the other tensors, float32."""

    codes: dict[str, Tensor]
    scales: dict[str, Tensor]
    small: dict[str, Tensor]

    def weights(self) -> dict[str, Tensor]:
        """All tensors as float32, ready for ``load_state_dict``."""
        wide = {name: self.codes[name].float() * self.scales[name][:, None] for name in self.codes}
        return wide | self.small

    def to_bytes(self, config: Config) -> bytes:
        """The model file. Equal models give equal bytes."""
        header = {"version": FORMAT_VERSION, "vocab_size": config.vocab_size, "recipe": config.recipe}
        sections = {"header.json": json.dumps(header, sort_keys=True).encode()}
        for name, codes in self.codes.items():
            sections[f"codes/{name}"] = codes.numpy().astype(np.int8).tobytes()
            sections[f"scales/{name}"] = self.scales[name].numpy().astype("<f2").tobytes()
        for name, tensor in self.small.items():
            sections[f"small/{name}"] = tensor.numpy().astype(_small_dtype(tensor)).tobytes()
        return write_container(None, sections, codec="lzma" if config.use_lzma else "none")


def load_packed(data: bytes, config: Config) -> PackedModel:
    """Read a model file. Every size is checked against the configuration. Raises ``ArtifactError``."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Hybrid(config).named_parameters()}
    bound = 65536 + sum(4 * shape.numel() + 2 * shape[0] for shape in shapes.values())
    try:
        sections = read_container(data, max_unpacked_bytes=bound)
        header = json.loads(sections.pop("header.json"))
    except (ContainerError, KeyError, ValueError) as error:
        raise ArtifactError(f"the model file is not usable: {error}") from error
    _check_header(header, config)
    packed = PackedModel({}, {}, {})
    for name, shape in shapes.items():
        if is_quantised(name, shape):
            packed.codes[name] = _take(sections, f"codes/{name}", "int8", shape)
            packed.scales[name] = _take(sections, f"scales/{name}", "<f2", shape[:1]).float()
        else:
            like = torch.empty(shape, device="meta")
            packed.small[name] = _take(sections, f"small/{name}", _small_dtype(like), shape).float()
    if sections:
        raise ArtifactError(f"the model file has sections nobody asked for: {', '.join(sorted(sections)[:3])}.")
    return packed


def _check_header(header: object, config: Config) -> None:
    if not isinstance(header, dict) or header.get("version") != FORMAT_VERSION:
        found = header.get("version") if isinstance(header, dict) else None
        raise ArtifactError(f"the model file has format version {found}; this code reads {FORMAT_VERSION}.")
    if header.get("vocab_size") != config.vocab_size:
        raise ArtifactError(f"the model file has {header.get('vocab_size')} tokens; VOCAB_SIZE is {config.vocab_size}.")


def _take(sections: dict[str, bytes], name: str, dtype: str, shape: torch.Size) -> Tensor:
    data = sections.pop(name, None)
    wanted = shape.numel() * np.dtype(dtype).itemsize
    if data is None or len(data) != wanted:
        found = "nothing" if data is None else f"{len(data):,} bytes"
        raise ArtifactError(f"section {name} holds {found}; the configuration asks for {wanted:,} bytes.")
    return torch.from_numpy(np.frombuffer(data, dtype).reshape(shape).copy())


def _small_dtype(tensor: Tensor) -> str:
    """Matrices as float16, control vectors as float32."""
    return "<f2" if tensor.dim() == 2 and tensor.shape[0] > 2 else "<f4"
