"""The study as a whole; killed at any moment it ends as an unbroken run."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intermode.errors import InputError
from intermode.studies.recursion_2d import STUDY, rates
from intermode.study import configured, reproduce
from intermode.study.arms import Rows

SMALL = {
    "model.size": 1000,
    "model.noise.timesteps": 60,
    "model.network.width": 16,
    "model.train.steps": 1000,
    "model.train.batch": 50,
    "model.train.checkpoint_every": 30,
    "drawing.chunk": 64,
    "arms.names": ["random", "hal", "lid"],
    "arms.seeds": 1,
}
"""Half a second for a training and for a pool, so that a kill can hit them."""
SCRIPT = """
import json, sys
from intermode.study import reproduce
if __name__ == "__main__":
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(sys.argv[2]).items()}
    reproduce("recursion-2d", "smoke", sys.argv[1], settings=settings)
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(out), json.dumps(SMALL)], stderr=subprocess.PIPE)


def outcome(out: Path) -> dict[str, Any]:
    metrics = json.loads((out / "metrics.json").read_text())
    return {name: metrics[name] for name in ("values", "measures", "claims", "series", "notes", "figures", "missing")}


def tensors(out: Path) -> dict[str, bytes]:
    """All models, pools and scores, by name."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("jobs/**/*.safetensors")}


def finish(out: Path) -> None:
    _, errors = (process := start(out)).communicate()
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    finish(out)
    return out


FOLDER = "?" * 12
"""The end of the name of a job's folder."""


def training(name: str) -> Callable[[Path], bool]:
    """Whether a training has left a checkpoint and is not finished."""

    def reached(out: Path) -> bool:
        files = {path.name for path in out.glob(f"jobs/{name}-{FOLDER}/*")}
        return "checkpoint.safetensors" in files and "result.json" not in files

    return reached


def making(name: str) -> Callable[[Path], bool]:
    """Whether some blocks of a pool, or of its scores, are finished, and not yet joined."""

    def reached(out: Path) -> bool:
        return any(out.glob(f"jobs/{name}-??-{FOLDER}/result.json")) and not any(out.glob(f"jobs/{name}-{FOLDER}"))

    return reached


KILLS = {
    "training generation 0": training("seed-0-generation-00-model"),
    "drawing generation 0": making("seed-0-generation-00-pool"),
    "training on what was selected": training("seed-0-random-generation-01-model"),
    "drawing a later generation": making("seed-0-hal-generation-01-pool"),
    "scoring generation 0": making("seed-0-generation-00-scores-lid"),
    "training the last generation": training("seed-0-lid-generation-02-model"),
}
"""What is on disk when a run is killed, in the order in which it comes."""


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for state, reached in KILLS.items():
        process = start(out)
        while not reached(out):
            assert process.poll() is None, f"it ended without {state}"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # the kill has hit: it stands as it was, and neither has the run ended
        assert reached(out), state
        assert not (out / "metrics.json").exists()
    finish(out)
    assert outcome(out) == outcome(unbroken)
    assert tensors(out) == tensors(unbroken)


@pytest.mark.slow
def test_a_damaged_result_is_made_again(unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    (record,) = out.glob(f"jobs/seed-0-hal-generation-01-pool-{FOLDER}/result.json")
    record.write_text(record.read_text()[:30])
    finish(out)
    assert outcome(out) == outcome(unbroken)
    assert tensors(out) == tensors(unbroken)


@pytest.mark.slow
def test_smoke_tier_decides_by_intervals(tmp_path: Path) -> None:
    metrics = reproduce("recursion-2d", "smoke", tmp_path / "run")
    assert metrics["missing"] == []
    assert [len(metrics["series"][arm]) for arm in ("all", "random", "hal")] == [6, 6, 6]
    first = [[row for row in rows if row["generation"] == 0] for rows in metrics["series"].values()]
    assert first[0] == first[1] == first[2]  # generation 0 has seen no selection
    claims = {claim["id"]: claim for claim in metrics["claims"]}
    assert list(claims) == ["grows", "filter-1", "filter-2", "repair-1", "repair-2", "filter-every"]
    for claim in claims.values():
        bound = float(claim["bound"].split()[-1])
        assert (claim["holds"] is None) == (claim["low"] <= bound < claim["high"])
    wins = metrics["measures"]["hal_wins"]
    assert (wins["n"], wins["method"]) == (4, "Wilson")
    assert claims["filter-every"]["bound"] == "at least 0.5"
    for name in ("generation_0_rate", "all_last_rate", "hal_over_random_rate_2", "growth_rate"):
        assert metrics["measures"][name]["method"].startswith("Student")
    assert {"all_last_modes_covered", "hal_last_kl", "random_last_generation"} <= metrics["values"].keys()
    for figure in ("hallucination_rate", "modes_covered", "kl", "generations"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_exact_masses_stand_beside_the_rates(tmp_path: Path) -> None:
    settings = {"exact": True, "arms.names": ("all", "random"), "arms.generations": 1, "arms.unfiltered_generations": 1}
    metrics = reproduce("recursion-2d", "smoke", tmp_path / "run", settings=settings)
    assert metrics["missing"] == []
    for rows in metrics["series"].values():
        for row in rows:
            # a binomial deviate of more than 5 deviations has a probability of 6e-7
            spread = (row["exact_mass"] * (1 - row["exact_mass"]) / row["samples"]) ** 0.5
            assert abs(row["hallucination_rate"] - row["exact_mass"]) < 5 * spread + row["exact_mass_error"]
    assert [claim["id"] for claim in metrics["claims"]] == ["grows", "grows-exact"]
    assert "exact_mass" in metrics["figures"]


def test_a_rate_is_positive_though_nothing_was_hallucinated() -> None:
    rows: Rows = [{"hallucinated": 0, "samples": 99}, {"hallucinated": 10, "samples": 99}]
    assert rates(rows) == [0.005, 0.105]


@pytest.mark.parametrize("tier", STUDY.tiers)
def test_all_tiers_can_be_used(tier: str) -> None:
    config = configured(STUDY, tier)
    assert len({claim.id for claim in STUDY.claims(config)}) == len(STUDY.claims(config))
    per_seed = 1 + sum(map(config.arms.last, config.arms.names))
    rows = [name for name in STUDY.jobs(config) if name.endswith("-row")]
    assert len(rows) == config.arms.seeds * per_seed


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"arms.extra": -1}, "extra"),
        ({"arms.generations": 0}, "generations"),
        ({"arms.names": ("all", "lidd")}, "arms"),
        ({"window": (5, 90)}, "window"),
        ({"drawing.chunk": 0}, "chunk"),
        ({"model.target.side": 0}, "side"),
    ],
)
def test_bad_settings_are_one_line_and_write_nothing(settings: dict[str, Any], field: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError) as error:
        reproduce("recursion-2d", "smoke", out, settings=settings)
    assert str(error.value).startswith(field)
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_chains_take_a_table_where_noise_exceeds_the_signal():
    plain, tabled = (configured(STUDY, "long", {"table": n}) for n in (0, 64))
    assert plain.view is None
    view, schedule = tabled.view, tabled.model.noise.schedule
    assert schedule.noise[view.begin] >= schedule.signal[view.begin]
    assert schedule.noise[view.begin - 1] < schedule.signal[view.begin - 1]
    assert tabled.window[1] < view.begin  # what Hal looks at is the network's
    pools = [job for name, job in STUDY.jobs(tabled).items() if name.endswith("-pool")]
    assert pools
    assert all(job.config["view"] == view for job in pools)
    with pytest.raises(InputError, match="table: 1 points"):
        configured(STUDY, "long", {"table": 1})
