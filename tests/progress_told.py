"""A progress that remembers what it was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from intermode.progress import Task


class Told:
    def __init__(self) -> None:
        self.opened: list[tuple[str, int, str]] = []
        self.advanced: Counter[str] = Counter()
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, unit: str = "") -> Iterator[Task]:
        self.opened.append((label, total, unit))
        told = self

        class One:
            def advance(self, amount: int) -> None:
                told.advanced[label] += amount

        yield One()
