"""The scripts that keep runs, ship models and write tables read today's runs and those of the first version."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.files import read_json, write_json
from intermode.models import load_model, save_model
from intermode.networks import build
from intermode.reports import FIELDS
from intermode.schedules import cosine, linear

ROOT = Path(__file__).parents[1]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("word", ["study", "experiment"])
def test_a_run_is_kept_with_the_figures_that_it_tells_of(word, tmp_path, monkeypatch):
    run = tmp_path / "run"
    write_json(run / "metrics.json", {word: "toy", "tier": "quick", "figures": {"a": "A."}})
    (run / "figures").mkdir()
    for figure in ("a.png", "a.pdf", "b.png"):
        (run / "figures" / figure).touch()
    keep_result = script("keep_result")
    monkeypatch.setattr(keep_result, "ROOT", tmp_path)
    keep_result.main(["keep", str(run)])
    kept = tmp_path / "results" / "toy" / "quick"
    assert {str(path.relative_to(kept)) for path in kept.rglob("*.*")} == {
        "metrics.json", "facts.json", "figures/a.png"
    }  # fmt: skip


def test_the_facts_of_a_run_are_kept_and_known_to_another_one(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    write_json(run / "metrics.json", {"study": "toy", "tier": "long", "figures": {}})
    for name in ("a-0123456789ab", "b-0123456789ab"):
        write_json(run / "jobs" / name / "job.json", {"name": name})
        write_json(run / "jobs" / name / "result.json", {"facts": {"is": name}, "made": {"seconds": 1.0}})
    (run / "jobs" / "c-0123456789ab").mkdir()
    keep_result = script("keep_result")
    monkeypatch.setattr(keep_result, "ROOT", tmp_path)
    keep_result.main(["keep", str(run)])
    assert "facts of 2 jobs" in capsys.readouterr().out
    write_json(tmp_path / "jobs" / "b-0123456789ab" / "result.json", {"facts": {"is": "mine"}, "made": {}})
    keep_result.main(["known", str(tmp_path / "results" / "toy" / "long"), str(tmp_path / "jobs")])
    assert "1 jobs are known" in capsys.readouterr().out
    assert read_json(tmp_path / "jobs" / "a-0123456789ab" / "result.json") == {
        "facts": {"is": "a-0123456789ab"}, "made": {"seconds": 1.0}, "whole": False
    }  # fmt: skip
    assert read_json(tmp_path / "jobs" / "b-0123456789ab" / "result.json")["facts"] == {"is": "mine"}


def model_in(folder, kind):
    description, schedule = {"kind": "mlp", "dimensions": 1, "width": 16}, linear(40)
    if kind == "unet":
        description, schedule = {"kind": "unet", "sample_size": 16, "channels": [32], "attention": []}, cosine(40)
    save_model(folder, NetworkDenoiser(build(description), schedule, "v"), {"target": "toy", "commit": "abc"})


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_a_model_is_shipped_from_the_jobs_of_its_run(kind, tmp_path, monkeypatch):
    run, shipped = tmp_path / "run", tmp_path / "pretrained"
    write_json(run / "config.json", {"study": "toy"})
    ship = script("ship")
    monkeypatch.setattr(ship, "SHIPPED", shipped)
    monkeypatch.setattr(sys, "argv", ["ship", str(run)])
    with pytest.raises(SystemExit, match="holds no model that it trained"):
        ship.main()
    model_in(run / "jobs" / "model-0123456789ab" / "model", kind)
    ship.main()
    assert (
        load_model(shipped / "toy").schedule.config
        == load_model(run / "jobs" / "model-0123456789ab" / "model").schedule.config
    )
    assert ("weights" in read_json(shipped / "toy" / "config.json")["provenance"]) == (kind == "unet")
    monkeypatch.setattr(sys, "argv", ["ship", str(run), "other"])
    ship.main()
    assert load_model(shipped / "other").shape == load_model(shipped / "toy").shape


def test_tables_hold_the_claims_of_all_kept_runs():
    results = script("results_table")
    table = results.table()
    for path in (ROOT / "results").glob("*/*/metrics.json"):
        metrics = read_json(path)
        for claim in metrics["claims"]:
            assert (claim["statement"] in table) == (path.parts[-3] != "bench")
    bench = results.measured()
    for row in bench["rows"]:
        assert f"| `{row['detector']}` | {row['settings']} |" in results.details(bench)
        assert f"| `{row['detector']}` |" in results.leaders(bench)
    mended = results.measured("mitigations")
    ends = {"after": 0.08, "after_low": 0.07, "after_high": 0.09, "more_evaluations": 0.3, "more_time": 0.32}
    kinds = {"duplicate": 0.01, "between_places": 0.03, "deformed": 0.005, "blank": 0.035}
    told = {"target": "shapes", "model": "well", "method": "late restart", "settings": "low", "divergence": 0.002}
    image = {**told, **ends, **kinds, "shapes": 1.7, "shapes_change": -0.021, "thrown_away": 0.1}
    table = results.mitigations({**mended, "rows": [*mended["rows"], image]})
    for row in mended["rows"]:
        assert f"| {row['method']} | {row['settings'] or '–'} |" in table
        if "width_change" in row:
            assert f"| {row['after']:.2e} [" in table
    assert "| mitigation, shapes (well) |" in table
    assert (
        "| late restart | low | 30 % | 32 % | 8.0 [7.0, 9.0] | 1.0 | 3.0 | 0.5 | 3.5 | 2.0e-03 | -2.1 % | 10 % |"
        in table
    )
    plain = {**image, "target": "Gaussians at 1, 2, 3 of standard deviation 0.05", "more_evaluations": 0.02}
    short = results.mended({"tier": "quick", "rows": [plain, {**plain, "model": "under", "after": 1.0}, image]})
    assert "| late restart | 2–30 % | 80 [70, 90] | – | 80 [70, 90] |" in short
    assert "ancestral" not in short  # what was not run has no row


def test_scores_of_images_stand_by_kind_of_error_the_best_at_equal_content_first():
    def row(target, score, equal):
        judged = {name: 0.75 for name in ("against_all", "against_good", "given_white")}
        found = {**judged, "at_equal_shapes": equal, "removed": None if equal is None else 0.5}
        ends = {f"{name}{end}": value for name, value in found.items() for end in ("_low", "_high")}
        return {"target": target, "score": score, "at": "", "tuned on labels": "no", **found, **ends}

    rows = [row("two of a kind", "few", None), row("two of a kind", "white", 0.5), row("two of a kind", "bias", 0.9)]
    text = script("results_table").image_scores({"tier": "long", "rows": [*rows, row("deformed", "bias", 0.25)]})
    two, deformed = text.split("| deformed: score |")
    assert [line.split(" | ")[0] for line in two.splitlines()[4:-1] if line] == ["| bias", "| white", "| few"]
    assert "| bias | – | no | 0.7500 [0.750, 0.750] | 0.7500 [0.750, 0.750] | 0.9000 [0.900, 0.900] |" in two
    assert "| few | – | no |" in two
    assert two.splitlines()[6].endswith("| – |")
    assert "0.2500" in deformed


def test_tables_go_between_their_markers_with_links_from_there(tmp_path, monkeypatch):
    results = script("results_table")
    monkeypatch.setattr(results, "contents", lambda: {"results": "[a](results/a/quick)"})
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    text = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"
    for name in ("README.md", "docs/results.md", "docs/detectors.md"):
        (tmp_path / name).write_text(text if "detectors" not in name else "no marker")
    results.main()
    assert (tmp_path / "README.md").read_text() == text.replace("old", "[a](results/a/quick)")
    assert (tmp_path / "docs" / "results.md").read_text() == text.replace("old", "[a](../results/a/quick)")
    assert (tmp_path / "docs" / "detectors.md").read_text() == "no marker"


def test_a_single_value_is_that_of_the_largest_tier(tmp_path, monkeypatch):
    results = script("results_table")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for tier, rate in (("quick", 0.5), ("long", 0.25)):
        place = tmp_path / "results" / "some-study" / tier
        place.mkdir(parents=True)
        estimate = {"value": rate, "low": 0.1, "high": 0.75, "n": 9, "method": "wilson"}
        metrics = {name: {} for name in FIELDS} | {
            "tier": tier,
            "values": {"rate": rate},
            "measures": {"rate": estimate},
        }
        write_json(place / "metrics.json", metrics)
    text = "a rate of <!-- =some-study/rate -->2<!-- / -->, and <!-- =some-study/rate --><!-- / -->."
    now = "<!-- =some-study/rate -->0.25 [0.1, 0.75] (long)<!-- / -->"
    assert results.with_values(text) == f"a rate of {now}, and {now}."
    assert results.with_values(results.with_values(text)) == results.with_values(text)
    with pytest.raises(InputError, match="some-study: no kept run holds the value other"):
        results.with_values("<!-- =some-study/other --><!-- / -->")


@pytest.mark.slow
def test_the_papers_sizes_run_in_slices_that_resume(tmp_path):
    words = [sys.executable, str(ROOT / "benchmarks" / "paper_gpu.py"), str(tmp_path), "--tier", "smoke"]
    words += ["--device", "cpu", "--studies", "gaussian-1d", "shapes"]

    def run(minutes):
        return subprocess.run([*words, "--minutes", str(minutes)], capture_output=True, text=True, check=True).stdout

    assert "gaussian-1d: goes on with the next slice" in run(0.35)  # the imports alone take seconds
    metrics = tmp_path / "kept" / "gaussian-1d" / "smoke" / "metrics.json"
    assert metrics.exists()
    assert "left: nothing" in run(9)
    assert not read_json(metrics)["missing"]
    for study, files in (("gaussian-1d", 1), ("shapes", 1)):
        kept = tmp_path / "kept" / study / "smoke"
        assert len(list(kept.glob("models/*/config.json"))) == files
        assert (kept / "facts.json").exists()
        assert list(kept.glob("figures/*.png"))
    assert load_model(next((tmp_path / "kept" / "shapes" / "smoke").glob("models/*"))).shape == (1, 64, 64)
    assert run(9) == "left: nothing\n"  # nothing is done twice
