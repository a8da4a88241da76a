"""``harness new``: a minimal legal submission to start from."""

import re
import shutil
import tempfile
from pathlib import Path

import click

from harness.cli import JSON, say
from harness.errors import UsageError
from harness.program import program

PACKAGE = Path(__file__).parents[1]
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@click.command()
@click.argument("name")
@JSON
def command(name: str, as_json: bool) -> None:
    """Make the folder NAME with a minimal legal submission: an adaptive bigram model.

    It is complete: `harness submit --submission NAME` trains, packages, evaluates and signs it as it is.
    """
    folder = create(name, Path.cwd())
    files = sorted(path.name for path in folder.iterdir())
    text = f"""{folder} holds {", ".join(files)}.
Try it:  {program()} try --submission {name} --quick
Then start with eval_entry.py, the predictor. {PACKAGE / "protocol" / "README.md"} explains each call."""
    say({"folder": str(folder), "files": files}, text, as_json=as_json)


def create(name: str, parent: Path) -> Path:
    """Write the template as ``parent / name``, whole or not at all. Raises ``UsageError`` for a bad or taken name."""
    if not NAME.fullmatch(name):
        text = f"name is {name!r}; wanted lower-case letters, digits, '_' or '-', starting with a letter."
        raise UsageError(text, remedy="Example: harness new mine.")
    target = parent / name
    if target.exists():
        raise UsageError(f"{target} exists already.", remedy="Choose another name, or remove it first.")
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}-") as scratch:
        draft = Path(scratch) / name
        shutil.copytree(PACKAGE / "template", draft, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = draft / "submission.toml"
        manifest.write_text(manifest.read_text().replace('name = "bigram"', f'name = "{name}"'))
        draft.rename(target)
    return target
