"""Compiled kernels that an earlier cell of the same evaluation left: each later cell starts from a copy of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def use_compile_cache(rank: int) -> None:
    """Point the compilers of PyTorch and Triton to the cache, before they are first used; nothing where there is none.

    Later cells than the one that compiles may only read the folder, so each rank copies its own part.
    """
    own = f"rank-{rank}"
    if "GOLF_COMPILE_CACHE_OUT" in os.environ:
        folder = Path(os.environ["GOLF_COMPILE_CACHE_OUT"]) / own
        folder.mkdir()
    elif "GOLF_COMPILE_CACHE" in os.environ:
        folder = Path(os.environ["TMPDIR"]) / f"compile-cache-{rank}"
        shutil.copytree(Path(os.environ["GOLF_COMPILE_CACHE"]) / own, folder)
    else:
        return
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
