"""Numbers of a step on their way from the device to the host."""

from __future__ import annotations

import torch
from torch import Tensor


class Readback:
    """Scalars by name, copied as soon as the device has them.

    ``float(tensor)`` would wait for all that is queued on the device, the next step as well; reading here does not.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        """values: each of shape (), all on one device and of one dtype."""
        self._names = list(values)
        stacked = torch.stack(list(values.values()))
        self._values = stacked.to("cpu", non_blocking=True)
        self._copied: torch.cuda.Event | None = None
        if stacked.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def read(self) -> dict[str, float]:
        """The numbers, once they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return dict(zip(self._names, self._values.tolist(), strict=True))
