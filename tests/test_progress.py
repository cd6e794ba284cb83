"""Progress of jobs in processes of their own, and bars that are open together."""

import io
import time

from rich.console import Console

from intermode.progress import Bars, Named, Silent


class Told(Silent):
    """Writes down what it is told."""

    def __init__(self):
        self.said = []

    def notice(self, message):
        self.said.append(("notice", message))

    def task(self, label, total, done=0, unit=""):
        told = self

        class Task:
            def __enter__(self):
                told.said.append(("open", label, total, done, unit))
                return self

            def advance(self, amount):
                told.said.append(("advance", label, amount))

            def __exit__(self, *_):
                told.said.append(("close", label))

        return Task()


def test_names_stand_before_labels_and_notices():
    told = Told()
    named = Named("seed 0", told)
    named.notice("hm")
    with named.task("training", 5):
        pass
    assert told.said == [
        ("notice", "seed 0: hm"),
        ("open", "seed 0: training", 5, 0, ""),
        ("close", "seed 0: training"),
    ]


def test_bars_are_shown_together_and_vanish():
    bars = Bars()
    bars._console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bars.task("generations", 5) as outer, bars.task("training", 100, 50, "steps") as inner:
        inner.advance(10)
        outer.advance(1)
        live = bars._live
        assert [(task.description, task.completed) for task in live.tasks] == [("generations", 1), ("training", 60)]
    assert bars._live is None
    with bars.task("again", 2):
        assert [task.description for task in bars._live.tasks] == ["again"]


def test_the_speed_shown_is_the_bars_own():
    bars = Bars()
    bars._console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bars.task("slow", 5), bars.task("fast", 1000, 0, "steps") as fast:
        for _ in range(3):
            fast.advance(100)
            time.sleep(0.01)
        slow, quick = bars._live.tasks
        assert not slow.fields["speed"]
        assert quick.fields["speed"].endswith("steps/s")
