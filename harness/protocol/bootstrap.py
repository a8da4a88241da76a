"""First code of a cell: put the sealed submission and the protocol on the path, then run one module of it.

Usage, by the referee only: ``python -I -B bootstrap.py SEALED_ROOT MODULE``; the submission is the package
``submission`` inside SEALED_ROOT, whatever its folder was called.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run ``submission.MODULE`` as ``__main__``."""
    _, sealed_root, module = sys.argv
    here = Path(__file__).resolve().parent
    sys.path[:0] = [sealed_root, str(here.parent.parent)]
    sys.argv = [module]
    runpy.run_module(f"submission.{module}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
