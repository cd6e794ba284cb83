"""The report: one page that needs nothing else, and a command that makes the same run again."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from intermode import cli, plots
from intermode.errors import InputError
from intermode.files import write_json
from intermode.reports import interval, number, write_report


class Page(HTMLParser):
    """What a browser would fetch, show and run."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.images, self.tags, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action", "poster")]
        if tag == "img":
            self.images.append(given)

    def handle_data(self, data):
        self.text += data


def claim(id, statement, paper, *measured):
    value, low, high, holds = measured
    return {
        "id": id,
        "statement": statement,
        "paper": paper,
        "measured": value,
        "low": low,
        "high": high,
        "holds": holds,
    }


@pytest.fixture
def finished(tmp_path):
    """A run with claims of every kind and two figures."""
    folder = tmp_path / "run"
    for name in ("loss", "other"):
        plots.loss(folder / "figures" / f"{name}.png", 20, np.linspace(2, 1, 20))
    metrics = {
        "study": "gaussian-1d",
        "summary": "A summary",
        "paper": "Figs. 2, 5a, 6a",
        "tier": "smoke",
        "tier_means": "seconds, for tests",
        "seed": 3,
        "commit": "abc",
        "device": "CPU, 1 thread",
        "versions": {"torch": "2"},
        "seconds": 1.0,
        "command": "intermode reproduce gaussian-1d --tier smoke --model.seed 3",
        "config": {"model": {"seed": 3}},
        "values": {"samples": 20000, "rate": 0.123456, "unknown": None},
        "measures": {"rate": {"value": 0.123456, "low": 0.1, "high": 0.2, "n": 10, "method": "Wilson"}},
        "claims": [
            claim("yes", "This holds & <b>is</b> escaped", "> 0", 0.5, 0.25, 0.75, True),
            claim("no", "This does not", "98 %", 0.7654321, 0.7, 0.8, False),
            claim("open", "This cannot be said", "–", None, None, None, None),
        ],
        "figures": {"loss": 'The "loss".', "other": "Another."},
        "notes": ["A note < that."],
    }
    write_json(folder / "metrics.json", metrics)
    return folder


def test_the_page_needs_nothing_but_itself(finished):
    text = write_report(finished).read_text(encoding="utf-8")
    page = Page(text)
    assert all(source.startswith("data:image/png;base64,") for source in page.fetched)
    assert len(page.images) == 2
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    for image, name in zip(page.images, ("loss", "other"), strict=True):
        embedded = base64.b64decode(image["src"].partition(",")[2])
        assert embedded == (finished / "figures" / f"{name}.png").read_bytes()
        assert 100 < int(image["width"]) < 1000


def test_the_page_says_what_was_found(finished):
    text = write_report(finished).read_text(encoding="utf-8")
    page = Page(text)
    for expected in (
        "This holds & <b>is</b> escaped",
        "0.5 [0.25, 0.75]",
        "This does not",
        "0.7654 [0.7, 0.8]",
        "0.1235 [0.1, 0.2]",
        "This cannot be said",
        "A note < that.",
        'The "loss".',
        "Another.",
        "20,000",
        "intermode reproduce gaussian-1d --tier smoke --model.seed 3",
        "Figs. 2, 5a, 6a",
        "seconds, for tests",
        "CPU, 1 thread",
    ):
        assert expected in page.text
    rows = {name: re.search(rf'id="claim-{name}".*?</tr>', text, re.S)[0] for name in ("yes", "no", "open")}
    assert '"holds yes">yes<' in rows["yes"]
    assert '"holds no">no<' in rows["no"]
    assert '"holds open">not decided<' in rows["open"]


def test_a_report_is_made_again_byte_for_byte(finished):
    before = write_report(finished).read_bytes()
    assert cli.main(["report", str(finished)]) == 0
    assert (finished / "report.html").read_bytes() == before


def test_a_run_without_its_figure_or_metrics_is_refused(finished, tmp_path):
    (finished / "figures" / "loss.png").unlink()
    with pytest.raises(InputError, match=r"loss\.png: not found"):
        write_report(finished)
    for content, lacking in (("{}", "tier"), ("[]", "everything"), ('{"tier": "x"}', "config")):
        (finished / "metrics.json").write_text(content)
        with pytest.raises(InputError, match=f"not written by a run .lacks {lacking}"):
            write_report(finished)
    with pytest.raises(InputError, match="holds no finished run"):
        write_report(tmp_path)
    assert not (finished / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (1234567, "1,234,567"), (0.123456, "0.1235"), (1.5e-7, "1.5e-07"), (0.0, "0")],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_intervals():
    assert interval({"measured": None, "low": None, "high": None}) == "–"
    assert interval({"measured": 0.5, "low": None, "high": 0.7}) == "0.5 (no interval)"
    assert interval({"measured": 0.5, "low": 0.25, "high": 0.75}) == "0.5 [0.25, 0.75]"


def test_a_figure_that_moves_is_shown_in_its_place(finished):
    page = "<!doctype html><p title=\"a 'film'\">&amp; moves</p>"
    (finished / "figures" / "loss.html").write_text(page, encoding="utf-8")
    found = Frames()
    found.feed(write_report(finished).read_text(encoding="utf-8"))
    assert found.pages == [page]
    assert len(found.images) == 1  # that of the other figure


class Frames(HTMLParser):
    """The pages within a page, and its images."""

    def __init__(self):
        super().__init__()
        self.pages, self.images = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "iframe":
            self.pages.append(dict(attrs)["srcdoc"])
        if tag == "img":
            self.images.append(tag)


def test_the_page_leads_to_the_samples_where_the_run_keeps_them(finished):
    assert "explorer" not in write_report(finished).read_text(encoding="utf-8")
    (finished / "explorer.html").write_text("")
    assert '<a href="explorer.html">' in write_report(finished).read_text(encoding="utf-8")
