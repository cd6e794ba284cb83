"""Progress of long work, reported to whoever wants to show it.

The library reports through the small protocol below and prints nothing; the command line passes a bar with the
time left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Bars", "Named", "Progress", "Silent", "Task"]


class Task(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: int) -> None:
        """``amount`` more units are done."""


class Progress(Protocol):
    """Opens tasks."""

    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> AbstractContextManager[Task]:
        """A context manager around the work; ``done`` units were done by an earlier run."""

    def notice(self, message: str) -> None:
        """Tell the user something in one line."""


class _NoTask:
    def advance(self, amount: int) -> None:
        pass


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> Iterator[Task]:
        yield _NoTask()

    def notice(self, message: str) -> None:
        pass


class Named:
    """Another progress, with a name before its labels and notices: whose work it is."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress

    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> AbstractContextManager[Task]:
        return self._progress.task(f"{self._name}: {label}", total, done, unit)

    def notice(self, message: str) -> None:
        self._progress.notice(f"{self._name}: {message}")


class Bars:
    """Bars with speed and time left on standard error; a line now and then where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._live: RichProgress | None = None
        self._open = 0
        self._lock = threading.Lock()

    def notice(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> Iterator[Task]:
        if not self._console.is_terminal:
            yield _Lines(label, total, done, unit, self.notice)
            return
        bars = self._shown()
        bar = bars.add_task(label, total=total, completed=done, speed="")
        try:
            yield _Bar(bars, bar, unit)
        finally:
            bars.remove_task(bar)
            self._hidden()

    def _shown(self) -> RichProgress:
        """The display of all open tasks, there from the first one opened to the last one closed."""
        from rich import progress

        with self._lock:
            self._open += 1
            if self._live is None:
                columns = (
                    progress.TextColumn("{task.description:<28}"),
                    progress.BarColumn(),
                    progress.TaskProgressColumn(),
                    progress.TextColumn("{task.fields[speed]:>16}"),
                    progress.TimeRemainingColumn(compact=True),
                )
                self._live = progress.Progress(*columns, console=self._console, transient=True)
                self._live.start()
            return self._live

    def _hidden(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open and self._live is not None:
                self._live.stop()
                self._live = None


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID, unit: str) -> None:
        self._bars, self._task, self._unit = bars, task, unit

    def advance(self, amount: int) -> None:
        self._bars.advance(self._task, amount)
        if speed := next((task.speed for task in self._bars.tasks if task.id == self._task), None):
            self._bars.update(self._task, speed=f"{_short(speed)} {self._unit}/s")


class _Lines:
    """Progress for a log file: a line every ten seconds, with the time left."""

    def __init__(self, label: str, total: int, done: int, unit: str, say: Callable[[str], None]) -> None:
        self._label, self._total, self._done, self._unit = label, total, done, unit
        self._begin_done, self._begin = done, time.monotonic()
        self._last = self._begin
        self._say = say

    def advance(self, amount: int) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= 10 and self._begin_done < self._done < self._total:
            self._last = now
            speed = (self._done - self._begin_done) / (now - self._begin)
            left = (self._total - self._done) / speed
            self._say(
                f"{self._label}: {_short(self._done)} of {_short(self._total)} {self._unit}, "
                f"{_short(speed)}/s, {left:.0f} s left"
            )


def _short(number: float) -> str:
    """Three significant digits with a suffix: 999, 15.2k, 1M."""
    for limit, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if number >= limit:
            return f"{number / unit:.3g}{suffix}"
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"
