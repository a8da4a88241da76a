"""First code of a cell: make the sealed submission and the protocol importable, then run one module of it.

Usage, by the referee only: ``python -I -B bootstrap.py SEALED_ROOT MODULE``; the submission is the package
``submission`` inside SEALED_ROOT, whatever its folder was called.
"""

import importlib.util
import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run ``submission.MODULE`` as ``__main__``."""
    _, sealed_root, module = sys.argv
    protocol = Path(__file__).resolve().parent
    load_package("harness", protocol.parent)
    load_package("harness.protocol", protocol)
    if os.environ.get("GOLF_PHASE") == "describe":  # a typing error in the module of a later phase shows now, not then
        for path in sorted(Path(sealed_root).rglob("*.py")):
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    sys.path.insert(0, sealed_root)
    sys.argv = [module]
    runpy.run_module(f"submission.{module}", run_name="__main__", alter_sys=True)


def load_package(name: str, folder: Path) -> None:
    """Import a package from its own files: a cell may not list the folders above, which an import by path would do."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if __name__ == "__main__":
    main()
