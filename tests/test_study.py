"""Studies as declarations: configs, claims, runs, reports."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jobs_to_do as work
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermode.engines import Here
from intermode.errors import InputError
from intermode.evaluation import Estimate, share
from intermode.files import read_json, write_json
from intermode.jobs import Job, Store, run_jobs
from intermode.reports import report
from intermode.status import left, status
from intermode.study import (
    Claim,
    Found,
    Measured,
    Picture,
    Study,
    at_least,
    below,
    configured,
    load_study,
    reproduce,
)

numbers = st.floats(-10, 10)


@dataclass(frozen=True)
class Inner:
    value: int = 1
    words: tuple[str, ...] = ("a",)

    def __post_init__(self) -> None:
        if self.value < 0:
            raise InputError(f"value: {self.value} must be at least 0")


@dataclass(frozen=True)
class Config:
    inner: Inner = field(default_factory=Inner)
    seed: int = 0
    fail: bool = False


def jobs(config: Config) -> dict[str, Job]:
    one = Job("one", work.refuse if config.fail else work.number, {"value": config.inner.value, "seed": config.seed})
    return {
        "one": one,
        "two": Job("two", work.number, {"value": 20}),
        "sum": Job("sum", work.total, None, {"one": one}),
    }


def of_one(config: Config, found: Found) -> Measured:
    return Measured({"share": share(found["one"].facts["value"], 10)})


def of_two(config: Config, found: Found) -> Measured:
    return Measured({"bare": found["two"].facts["value"], "infinite": math.inf}, notes=["two was found"])


def draw(config: Config, found: Found, measured: Measured, path: Path) -> str:
    _ = found["sum"]
    path.parent.mkdir(parents=True, exist_ok=True)
    # the smallest head that a report reads: a width at byte 16
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (8).to_bytes(4, "big") * 2)
    return "A caption."


TOY = Study(
    "toy",
    figures="–",
    summary="A toy",
    config=Config,
    tiers={"smoke": {"inner.value": 2}, "quick": {}},
    jobs=jobs,
    measures=(of_one, of_two),
    claims=lambda config: [
        Claim("many", "share", below(0.9), "Few (under 0.9)", "few"),
        Claim("bare", "bare", at_least(1), "At least 1", "many"),
    ],
    pictures=lambda config: [Picture("picture", draw)],
)


@given(numbers, st.floats(0, 5), st.floats(0, 5), numbers)
def test_a_claim_is_decided_if_the_whole_interval_agrees(value: float, under: float, over: float, end: float) -> None:
    estimate = Estimate(value, value - under, value + over, method="exact")
    above, beneath = at_least(end).decide(estimate), below(end).decide(estimate)
    assert above == (True if value - under >= end else False if value + over < end else None)
    assert beneath == (None if above is None else not above)
    assert at_least(end).decide(Estimate(value, value - under, value + over)) is None  # no method, no interval
    assert below(end).decide(None) is None
    for ends in ((math.nan, value + over), (value - under, math.nan)):
        unknown = Estimate(value, *ends, method="anything")
        assert at_least(end).decide(unknown) is below(end).decide(unknown) is None


def test_settings_reach_nested_configs() -> None:
    assert configured(TOY, "smoke").inner.value == 2
    assert configured(TOY, "smoke", {"inner.value": 3, "seed": 5}) == Config(Inner(3), 5)
    assert configured(TOY, settings={"inner": Inner(4), "inner.words": ("b",)}) == Config(Inner(4, ("b",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iner.value": 1}, "settings: unknown iner.value; did you mean inner?"),
        ({"inner.valu": 1}, "settings: unknown inner.valu; did you mean inner.value?"),
        ({"seed.x": 1}, "settings: unknown seed.x"),
        ({"inner.value": -1}, "value: -1 must be at least 0"),
    ],
)
def test_settings_that_do_not_exist(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        configured(TOY, "quick", settings)
    assert str(error.value).startswith(message)


def test_a_tier_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"tier: unknown 'smok'; did you mean smoke\? \(choose from smoke, quick\)"):
        configured(TOY, "smok")


def test_a_run_holds_all_that_is_shown(tmp_path: Path) -> None:
    metrics = reproduce(TOY, "smoke", tmp_path / "run", settings={"seed": 3})
    assert metrics == read_json(tmp_path / "run" / "metrics.json")
    assert metrics["values"] == {"share": 0.2, "bare": 20, "infinite": None}
    assert metrics["measures"]["share"] == {**share_of(2), "n": 10, "method": "Wilson"}
    few, bare = metrics["claims"]
    assert (few["holds"], few["bound"]) == (True, "below 0.9")
    assert (bare["holds"], bare["measured"], bare["low"]) == (None, 20, None)  # no interval, no decision
    assert metrics["command"] == "intermode reproduce toy --tier smoke --seed 3"
    assert metrics["figures"] == {"picture": "A caption."}
    assert metrics["seed"] == 3
    page = (tmp_path / "run" / "report.html").read_text()
    assert "two was found" in page
    assert "A caption." in page
    assert "20 (no interval)" in page


def share_of(count: int) -> dict[str, Any]:
    found = share(count, 10)
    return {"value": found.value, "low": found.low, "high": found.high}


def test_a_second_look_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reproduce(TOY, "smoke", tmp_path / "run")
    monkeypatch.setattr(
        "intermode.study.provenance", lambda *_: {"commit": "another", "device": "another", "versions": {}}
    )
    assert reproduce(TOY, "smoke", tmp_path / "run") == first
    other = replace(TOY, claims=lambda config: TOY.claims(config)[:1])
    again = reproduce(other, "smoke", tmp_path / "run")  # another analysis of the same jobs
    assert again["analysed"] == "another"
    assert {k: again[k] for k in ("commit", "device", "versions", "seconds")} == {
        k: first[k] for k in ("commit", "device", "versions", "seconds")
    }


def test_a_failed_job_leaves_the_rest(tmp_path: Path) -> None:
    metrics = reproduce(TOY, "quick", tmp_path / "run", settings={"fail": True})
    assert metrics["missing"] == [
        "of_one: one (value: is no number)",
        "picture: sum (needs one, which failed)",
    ]
    assert metrics["values"] == {"bare": 20, "infinite": None}
    assert [claim["holds"] for claim in metrics["claims"]] == [None, None]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "of_one: one (value: is no number)" in page
    states = {job.name.rpartition("-")[0]: job.state for job in status(tmp_path / "run")}
    assert states == {"one": "failed", "two": "done", "sum": "waiting"}


def test_a_run_that_goes_on_can_be_looked_at(tmp_path: Path) -> None:
    two = jobs(Config())["two"]
    with Store(tmp_path / "jobs").alone():  # as another process holds it
        nothing = reproduce(TOY, "quick", tmp_path / "run", jobs=tmp_path / "jobs", workers=0)
    assert nothing["missing"] == [
        "of_one: one (not finished)",
        "of_two: two (not finished)",
        "picture: sum (not finished)",
    ]
    assert nothing["values"] == {}
    assert run_jobs([two], Store(tmp_path / "jobs"), Here()) == {}
    assert not list((tmp_path / "jobs").glob("one-*"))
    metrics = reproduce(TOY, "quick", tmp_path / "run", jobs=tmp_path / "jobs", workers=0)
    assert metrics["values"] == {"bare": 20, "infinite": None}
    assert not list((tmp_path / "jobs").glob("one-*"))
    assert reproduce(TOY, "quick", tmp_path / "run", jobs=tmp_path / "jobs")["missing"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"seed": 1}}, "holds another run (config.seed is 0 there and 1 here)"),
        ({"tier": "quick"}, "holds another run (tier is smoke there and quick here"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    reproduce(TOY, "smoke", tmp_path / "run")
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    with pytest.raises(InputError) as error:
        reproduce(**{"study": TOY, "tier": "smoke", "out": tmp_path / "run", **change})
    assert message in str(error.value)
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        reproduce(TOY, "smoke", tmp_path)


def test_runs_that_share_jobs_share_their_work(tmp_path: Path) -> None:
    for seed in (0, 1):
        reproduce(TOY, "smoke", tmp_path / f"run-{seed}", settings={"seed": seed}, jobs=tmp_path / "jobs")
    assert (next((tmp_path / "jobs").glob("two-*")) / "visits").read_text() == "x"
    assert len(list((tmp_path / "jobs").glob("one-*"))) == 2


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (replace(TOY, measures=(of_two,)), "claims: many names the measure 'share', which is not measured"),
        (replace(TOY, measures=(of_one, of_one)), "measures: share is measured twice"),
        (replace(TOY, claims=lambda config: [*TOY.claims(config)] * 2), "claims: two of toy have one id"),
        (
            replace(TOY, jobs=lambda config: {"one": Job("one", work.number, 1), "two": Job("one", work.number, 2)}),
            "jobs: two different ones are named one",
        ),
    ],
)
def test_mistakes_of_a_declaration(tmp_path: Path, study: Study, message: str) -> None:
    with pytest.raises(InputError) as error:
        reproduce(study, "smoke", tmp_path / "run")
    assert str(error.value).startswith(message)


FOREIGN = """
from dataclasses import dataclass
from intermode.evaluation import share
from intermode.jobs import Job
from intermode.study import Claim, Measured, Study, below

@dataclass(frozen=True)
class Config:
    n: int = 10

def count(running):
    return {"n": running.config.n}

STUDY = Study(
    "mine", figures="–", summary="Mine", config=Config, tiers={"quick": {}},
    jobs=lambda config: {"count": Job("count", count, config)},
    measures=(lambda config, found: Measured({"none": share(0, found["count"].facts["n"])}),),
    claims=lambda config: [Claim("none", "none", below(0.5), "Few", "few")],
    pictures=lambda config: [],
)
"""


@pytest.mark.parametrize("how", [{}, {"workers": 2}, pytest.param({"on": "ray"}, id="ray")])
def test_a_study_of_ones_own(tmp_path: Path, how: dict[str, Any]) -> None:
    if "on" in how:
        pytest.importorskip("ray", reason="the extra intermode[ray] is not installed")
    file = tmp_path / f"mine_{len(how)}_{next(iter(how), 'here')}.py"
    file.write_text(FOREIGN)
    metrics = reproduce(str(file), "quick", tmp_path / "run", **how)
    assert [claim["holds"] for claim in metrics["claims"]] == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", r"cannot be imported \(ModuleNotFoundError: No module named"),
        ("x = 1", "defines no STUDY"),
        ("STUDY = 1", "defines no STUDY"),
        ("def (", r"cannot be imported \(SyntaxError"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "no_study.py"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_study(str(file))
    with pytest.raises(InputError, match="is not found"):
        load_study(str(tmp_path / "missing.py"))
    with pytest.raises(InputError, match=r"study: unknown 'gausian-1d'; did you mean gaussian-1d\?"):
        load_study("gausian-1d")


def test_metrics_of_the_first_version_make_a_report(tmp_path: Path) -> None:
    write_json(
        tmp_path / "metrics.json",
        {
            "experiment": "gone",
            "tier": "quick",
            "wall_s": 12.5,
            "config": {"a_field": "that is gone"},
            "values": {"rate": 0.5},
            "claims": [
                {"id": "a", "statement": "S", "paper": "P", "measured": 1.0, "low": 0.5, "high": 2.0, "holds": None}
            ],
            "figures": {},
            "notes": [],
        },
    )
    page = report(tmp_path).read_text()
    for words in ("gone", "1 [0.5, 2]", "not decided", "12 s of computing", "0.5"):
        assert words in page


def test_time_left_is_that_of_jobs_of_the_same_kind(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs")
    parts = [Job(f"part-{k}", work.number, {"value": k}) for k in range(4)]
    run_jobs(parts[:2], store, Here())
    for job in parts[:2]:
        record = read_json(store.folder(job) / "result.json")
        record["made"]["seconds"] = 30.0
        write_json(store.folder(job) / "result.json", record)
    write_json(store.path / "plan.json", {"jobs": [job.folder for job in parts], "workers": 2})
    found = status(tmp_path)
    assert [job.state for job in found] == ["done", "done", "waiting", "waiting"]
    assert left(found, 2) == pytest.approx(30.0)
    write_json(store.path / "plan.json", {"jobs": [Job("other", work.number, 7).folder], "workers": 1})
    assert left(status(tmp_path), 1) is None  # nothing of its kind is finished
    with pytest.raises(InputError, match="holds no jobs"):
        status(tmp_path / "elsewhere")


def test_what_was_temporary_and_read_by_all_is_no_longer_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs")
    part = Job("part", work.number, {"value": 1}, temporary=True)
    whole = Job("whole", work.total, None, {"part": part})
    run_jobs([whole], store, Here())
    assert [(job.name, job.state) for job in status(tmp_path)] == [(whole.folder, "done")]


def test_metrics_are_plain_json(tmp_path: Path) -> None:
    metrics = reproduce(TOY, "smoke", tmp_path / "run")
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
