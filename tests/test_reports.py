"""The report: one page that needs nothing else, and a command that makes the same run again."""

import base64
import json
import re
import shlex
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from intermode import cli, plots
from intermode.errors import InputError
from intermode.experiments import EXPERIMENTS, TIERS
from intermode.reports import command, interval, number, write_report
from intermode.run import Claim, Results, Run


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


@pytest.fixture
def finished(tmp_path):
    """A run with claims of every kind and two figures."""
    config = replace(EXPERIMENTS["gaussian-1d"].load().TIERS["smoke"], means=(1.0, 2.5), seed=3)
    run = Run(tmp_path / "run", "gaussian-1d", "smoke", config)
    for name in ("loss", "other"):
        plots.loss(run.figure(name), 20, np.linspace(2, 1, 20))
    claims = [
        Claim("yes", "This holds & <b>is</b> escaped", "> 0", 0.5, 0.25, 0.75, True),
        Claim("no", "This does not", "98 %", 0.1234567, None, None, False),
        Claim("open", "This cannot be said", "–", None, None, None, None),
    ]
    values = {"samples": 20000, "rate": 0.123456, "unknown": None}
    figures = {"loss": 'The "loss".', "other": "Another."}
    run.finish(Results(values=values, claims=claims, figures=figures, notes=["A note < that."]), "cpu", 1)
    return run.path


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
        "0.1235",
        "This cannot be said",
        "A note < that.",
        'The "loss".',
        "Another.",
        "20,000",
        "intermode reproduce gaussian-1d --tier smoke --seed 3 --means 1.0 2.5",
        EXPERIMENTS["gaussian-1d"].figures,
        TIERS["smoke"],
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
    for content, lacking in (("{}", "experiment"), ("[]", "everything"), ('{"experiment": "x"}', "tier")):
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
    assert interval({"measured": 0.5, "low": None, "high": 0.7}) == "0.5"
    assert interval({"measured": 0.5, "low": 0.25, "high": 0.75}) == "0.5 [0.25, 0.75]"


# the command


def parsed(line, monkeypatch):
    """The config that the command line makes of a command, by its own parser."""
    seen = []

    class Stop(Exception):
        pass

    def stop(path, experiment, tier, config, progress):
        seen.append((experiment, tier, config))
        raise Stop

    monkeypatch.setattr("intermode.run.Run", stop)
    # the words are judged, not whether the models of a tier are shipped
    monkeypatch.setattr(type(EXPERIMENTS[shlex.split(line)[2]].load().TIERS["smoke"]), "check", lambda self: None)
    program, *words = shlex.split(line)
    assert program == "intermode"
    with pytest.raises(Stop):
        cli.main(words)
    return seen[0]


@pytest.mark.parametrize("experiment", [*EXPERIMENTS])
@pytest.mark.parametrize("tier", ["smoke", "quick"])
def test_a_tier_needs_no_settings(experiment, tier, monkeypatch):
    config = EXPERIMENTS[experiment].load().TIERS[tier]
    line = command({"experiment": experiment, "tier": tier, "config": asdict(config)})
    assert line == f"intermode reproduce {experiment} --tier {tier}"
    assert parsed(line, monkeypatch) == (experiment, tier, config)


@pytest.mark.parametrize(
    ("experiment", "changes"),
    [
        ("gaussian-1d", {"means": (-1.0, 0.5, 2.0)}),
        ("gaussian-1d", {"means": (4.0,), "window": (2, 9), "sigma": 0.1 + 0.2}),
        ("gaussian-1d", {"tied_blocks": True, "decay": "none", "variance": "small", "learning_rate": 3e-7}),
        ("gaussian-1d-sweeps", {"mode_sets": ((1.0, 2.0, 4.0),)}),
        ("gaussian-1d-sweeps", {"mode_sets": ((1.0, 2.0), (-3.0, 0.1, 4.0), (7.0, 9.0))}),
        ("gaussian-1d-sweeps", {"mode_sets": ()}),
        ("gaussian-1d-sweeps", {"train_sizes": (10, 20, 30), "distances": (0.25, 1.5), "timestep_counts": (30,)}),
        ("score-field", {"samples": 123, "seed": 10**20, "timesteps": 77}),
    ],
)
@pytest.mark.parametrize("tier", ["smoke", "quick"])
def test_the_command_gives_the_same_config(experiment, tier, changes, monkeypatch):
    config = replace(EXPERIMENTS[experiment].load().TIERS[tier], **changes)
    metrics = json.loads(json.dumps({"experiment": experiment, "tier": tier, "config": asdict(config)}))
    line = command(metrics)
    assert all(f"--{name.replace('_', '-')}" in line for name in changes)
    assert parsed(line, monkeypatch) == (experiment, tier, config)


def test_a_flag_that_is_on_in_the_tier_can_be_off(monkeypatch):
    module = EXPERIMENTS["gaussian-1d"].load()
    off = module.TIERS["smoke"]
    monkeypatch.setitem(module.TIERS, "smoke", replace(off, tied_blocks=True))
    line = command({"experiment": "gaussian-1d", "tier": "smoke", "config": asdict(off)})
    assert "--no-tied-blocks" in line
    assert parsed(line, monkeypatch)[2] == off
