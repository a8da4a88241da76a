"""Every code block of the documentation: Python runs, commands and their options exist, links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from harness.cli.main import main
from harness.config.tracks import load_track

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "harness").rglob("*.md"), *(ROOT / "submission").rglob("*.md")]
    if ".venv" not in path.parts
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text())):
            if kind == language:
                yield f"{page.relative_to(ROOT)}#{number}", text


def commands() -> Iterator[tuple[str, str]]:
    for place, text in blocks("console"):
        for line in text.splitlines():
            if line.startswith("$ "):
                yield place, line[2:].split(" > ")[0].split("  #")[0]


@pytest.mark.parametrize(("place", "line"), [pytest.param(p, c, id=f"{p}: {c}") for p, c in commands()])
def test_a_command_and_its_options_exist(place: str, line: str):
    words = shlex.split(line)
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= MAKE_TARGETS
    elif words[0] == "harness":
        command, rest = resolve(words[1:])
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert used <= known | {"--help"}, f"{command.name} knows {sorted(known)}"
        given, left, _ = command.make_parser(click.Context(command)).parse_args(
            [word for word in rest if word != "--help"]
        )
        assert not left, f"{command.name} takes no {left}"
        positional = [
            str(given.get(parameter.name)) for parameter in command.params if isinstance(parameter, click.Argument)
        ]
        assert not re.search(r"'[\d.]+'", " ".join(positional)), "a number after an option that takes none"
    else:
        assert words[0].split("/")[-1] in {"git", "cd", "pip", "podman", "python", "source", "mkdir", "for", "export"}


def test_a_guide_that_fetches_an_export_to_run_on_fetches_its_documents():
    guides = [text for _, text in blocks("console") if "harness data fetch" in text and "make submit" in text]
    assert guides
    for line in "".join(guides).splitlines():
        assert "harness data fetch" not in line or "--with-docs" in line, f"no dataset.json comes of: {line}"


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"harness has no command {words[0]}"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize(("place", "text"), [pytest.param(p, t, id=p) for p, t in blocks("python")])
def test_a_python_block_runs(place: str, text: str):
    exec(compile(text, place, "exec"), {"__name__": "documentation"})


def test_the_track_of_the_guide_to_a_challenge_of_your_own_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (text,) = [text for place, text in blocks("toml") if "own-challenge.md" in place]
    (tmp_path / "spring.toml").write_text(text)
    monkeypatch.setenv("GOLF_TRACKS_DIR", str(tmp_path))
    track = load_track("spring")
    assert (track.dataset, track.limits.train_s, track.deadline[:4]) == ("pages", 15.0, "2027")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
