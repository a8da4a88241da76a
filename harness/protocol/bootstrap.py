"""First code of a cell: make the sealed submission and the protocol importable, then run one module of it.

Usage, by the referee only: ``python -I -B bootstrap.py SEALED_ROOT MODULE``; the submission is the package
``submission`` inside SEALED_ROOT, whatever its folder was called.
"""

import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


def main() -> None:
    """Run ``submission.MODULE`` as ``__main__``."""
    _, sealed_root, module = sys.argv
    protocol = Path(__file__).resolve().parent
    load_package("harness", protocol.parent)
    load_package("harness.protocol", protocol)
    sys.meta_path[sys.meta_path.index(PathFinder)] = ReadableFinder
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


class ReadableFinder(PathFinder):
    """Finds what the usual finder finds, without packages that are installed, but that no cell may read.

    Without a root folder of its own a cell sees their names; libraries that can do without a package try an import.
    """

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """``None`` for a top-level module that can't be opened."""
        spec = super().find_spec(fullname, path, target)
        if spec is not None and spec.has_location and spec.origin is not None and "." not in fullname:
            try:
                Path(spec.origin).open("rb").close()
            except PermissionError:
                return None
        return spec


if __name__ == "__main__":
    main()
