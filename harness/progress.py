"""Progress for people: a bar with ETA on a terminal, plain lines elsewhere. All of it goes to stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from harness.text import printable

PLAIN_INTERVAL_S = 5.0


class Stage:
    """One running stage; ``words`` are the last that were said of it."""

    def __init__(self, show: Callable[[float, str], None] = lambda *_: None) -> None:
        self._show, self.words = show, ""

    def update(self, done: float, text: str = "") -> None:
        """Report ``done``, in the unit of the stage's total, and a few words on what is going on."""
        self.words = printable(text)
        self._show(done, self.words)


class Reporter:
    """Where stages and notes are shown. This base shows nothing: it serves ``--json`` and tests."""

    @contextmanager
    def stage(self, title: str, total: float | None, unit: str = "") -> Iterator[Stage]:
        """A stage of ``total`` units (``None``: unknown) for the duration of the ``with`` block."""
        yield Stage()

    def note(self, text: str) -> None:
        """One line that stays."""


class BarReporter(Reporter):
    """One display for the whole command: a line for each stage that is over, and below them a bar for what runs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or getattr(sys.stderr, "bare", sys.stderr), highlight=False)
        self._started, self._running = time.monotonic(), 0
        self._bars = Progress(
            TextColumn("{task.fields[since]}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[eta]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=self._console,
            expand=True,
            transient=True,
        )

    @contextmanager
    def stage(self, title: str, total: float | None, unit: str = "") -> Iterator[Stage]:
        """Draw a bar with elapsed time and ETA; when the stage is over, one line stays of it."""
        start, name = time.monotonic(), printable(title, 40)
        eta = "" if total is None else "ETA"
        task = self._bars.add_task(name, total=total, text="", since=self._clock(), eta=eta)
        shown = Stage(lambda done, words: self._bars.update(task, completed=done, text=words))
        self._running += 1
        try:
            self._bars.start()
            yield shown
        finally:
            self._bars.remove_task(task)
            self._running -= 1
            if not self._running:
                self._bars.stop()
            line = f"{self._clock()}  {name:<22} {time.monotonic() - start:7.1f} s  {shown.words}".rstrip()
            self._console.print(Text(line), no_wrap=True, overflow="ellipsis", crop=True)

    def _clock(self) -> str:
        """Minutes and seconds since the command began."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        return f"{minutes:3}:{seconds:02}"

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(printable(text, 400)))


class LineReporter(Reporter):
    """Plain lines at most every five seconds, for logs and pipes."""

    @contextmanager
    def stage(self, title: str, total: float | None, unit: str = "") -> Iterator[Stage]:
        """Print when the stage starts and ends, and now and then in between."""
        start = last = time.monotonic()

        def show(done: float, words: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < PLAIN_INTERVAL_S:
                return
            last, elapsed = now, now - start
            part = f"{done:.0f}" if total is None else f"{done:.0f}/{total:.0f}"
            times = (f"{part} {unit}, " if unit else "") + f"{elapsed:.0f} s"
            if total is not None and 0 < done <= total:
                times += f", ETA {elapsed * (total - done) / done:.0f} s"
            print(f"{title}: {times}  {words}".rstrip(), file=sys.stderr, flush=True)

        print(f"{title} …", file=sys.stderr, flush=True)
        yield Stage(show)
        print(f"{title}: done in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print one line."""
        print(printable(text, 400), file=sys.stderr, flush=True)


def make_reporter(*, silent: bool = False) -> Reporter:
    """The reporter that fits this standard error: bars on a terminal, lines elsewhere, nothing when ``silent``."""
    if silent:
        return Reporter()
    return BarReporter() if sys.stderr.isatty() else LineReporter()
