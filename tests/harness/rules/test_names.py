"""One name, one thing: no module of the referee shares its name with another, and no class does."""

import re
from collections import Counter
from pathlib import Path

HARNESS = Path(__file__).parents[3] / "harness"


def test_no_module_and_no_class_has_the_name_of_another():
    files = list(HARNESS.rglob("*.py"))
    modules = Counter(path.stem for path in files if path.stem != "__init__")
    classes = Counter(name for path in files for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE))
    assert [name for name, count in (modules + classes).items() if count > 1] == []
