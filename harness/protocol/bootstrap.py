"""First code of a cell: make the sealed submission and the protocol importable, then run one module of it.

Usage, by the referee only: ``python -I -B bootstrap.py SEALED_ROOT MODULE``; the submission is the package
``submission`` inside SEALED_ROOT, whatever its folder was called.
"""

import os
import runpy
import sys
from importlib.machinery import FileFinder, ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def main() -> None:
    """Run ``submission.MODULE`` as ``__main__``."""
    _, sealed_root, module = sys.argv
    protocol = Path(__file__).resolve().parent
    load_package("harness", protocol.parent)
    load_package("harness.protocol", protocol)
    hide_unreadable()
    if os.environ.get("GOLF_PHASE") == "describe":
        refuse_syntax_errors(Path(sealed_root) / "submission")
    sys.path.insert(0, sealed_root)
    sys.argv = [module]
    runpy.run_module(f"submission.{module}", run_name="__main__", alter_sys=True)


def refuse_syntax_errors(folder: Path) -> None:
    """A typing error in a module of a later phase is told now, as the phase's failure, and not when its clock runs."""
    from harness.protocol.environment import CellEnvironment  # as soon as the package is there
    from harness.protocol.messages import SYNTAX_ERROR, Kind, Message

    for path in sorted(folder.rglob("*.py")):
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:  # the latter, before Python 3.12, for a zero byte
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            words = error.msg if isinstance(error, SyntaxError) else str(error)
            text = f"{SYNTAX_ERROR}{path.relative_to(folder).as_posix()}{line}: {words}"
            CellEnvironment.read("describe").open_channel().send(Message(Kind.FAILED, text=text))
            raise SystemExit(1) from None


def load_package(name: str, folder: Path) -> None:
    """Import a package from its own files: a cell may not list the folders above, which an import by path would do."""
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def hide_unreadable() -> None:
    """Find no package from now on that is installed, but that no cell may read.

    Without a root folder of its own a cell sees their names; libraries that can do without a package try an import.
    """
    usual = FileFinder.find_spec

    def find_spec(self: FileFinder, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = usual(self, fullname, target)
        if spec is not None and spec.has_location and spec.origin is not None and "." not in fullname:
            try:
                Path(spec.origin).open("rb").close()
            except PermissionError:
                return None
        return spec

    FileFinder.find_spec = find_spec  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    main()
