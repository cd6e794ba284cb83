"""The notebook of examples/ runs, and what it shows is what it says."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat")

PATH = Path(__file__).parents[1] / "examples" / "own_pipeline.ipynb"
SIZES = "steps, count = 1500, 320"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    return "".join(each.text for cell in code(notebook) for each in cell.outputs if each.output_type == "stream")


def triple(line):
    """A share with the ends of its interval."""
    return tuple(float(number) for number in re.search(r"(\S+) \[(\S+), (\S+)\]", line).groups())


def auroc_within(text):
    """Of each score, within each digit."""
    return {
        name: float(within)
        for name, within in re.findall(r"^(.*): AUROC \S+, within each digit (\S+)", text, flags=re.M)
    }


def test_what_is_shown_is_what_it_says(notebook):
    """Its sentences, of what its cells have printed."""
    text = printed(notebook)
    made = int(SIZES.rpartition(" ")[2])
    assert f"{made} scores\n" in text
    lid = {
        digit: float(mean) for digit, mean in re.findall(r"^(\d): +\d+ images, lid (\S+) on average", text, flags=re.M)
    }
    assert min(lid, key=lid.get) == "1"  # ones are low and eights high
    assert max(lid, key=lid.get) == "8"
    auroc = auroc_within(text)
    assert auroc["lid"] > 0.6  # says something
    assert auroc["hal, watched"] < 0.55  # says nothing
    passed = int(re.search(rf"(\d+) of {made} kept .*: lid up to", text)[1])
    assert passed > 0.95 * made  # nearly all that the model made passes
    before, after = (re.findall(rf"far off {when}.*", text) for when in ("before", "after"))
    assert len(before) == len(after) == 2
    for one, other in zip(map(triple, before), map(triple, after), strict=True):  # the intervals overlap
        assert max(one[1], other[1]) < min(one[2], other[2])
    kept, rejected = (triple(re.search(rf"far off of what is {part}.*", text)[0]) for part in ("kept", "rejected"))
    assert rejected[0] > 2 * kept[0]  # several times as much
    assert rejected[1] > kept[2]


def test_it_is_whole_small_and_has_been_run_from_top_to_bottom(notebook):
    nbformat.validate(notebook)
    assert PATH.stat().st_size < 1e6
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [each for cell in code(notebook) for each in cell.outputs]
    assert {each.output_type for each in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(each.name == "stdout" for each in outputs if each.output_type == "stream")
    pictures = [each.data["image/png"] for each in outputs if "image/png" in each.get("data", {})]
    assert len(pictures) == 8
    assert not re.search(r"/(home|root|tmp|work|Users)/", printed(notebook))


def test_it_does_what_the_table_of_examples_says(notebook):
    (said,) = (line for line in (PATH.parent / "README.md").read_text().splitlines() if PATH.name in line)
    cells = "\n".join(cell.source for cell in code(notebook))
    does = {
        "trains": "loss.backward()",
        "watches": "intermode.watch(pipe)",
        "scores": "intermode.score(",
        "looks": "display(sheet(",
        "sets a threshold": "intermode.Threshold.conformal(",
        "repairs": "intermode.repair(",
        "filters": "intermode.filter(",
        "exports": "intermode.explore(",
    }
    for word, call in does.items():
        assert word in said
        assert call in cells


@pytest.mark.filterwarnings("ignore:.*class is present")  # all images of so short a training are far off
def test_every_cell_runs(notebook, tmp_path, monkeypatch, capsys):
    """In order, with a shorter training and fewer images; what it writes is what it shows."""
    monkeypatch.chdir(tmp_path)
    cells = [cell.source for cell in code(notebook)]
    assert sum(SIZES in cell for cell in cells) == 1
    names = {}
    for k, cell in enumerate(cells):
        small = cell.replace(SIZES, "steps, count = 30, 64").replace(
            "held_out = order[:1500], order[1500:]", "held_out = order[:1500], order[1700:]"
        )
        exec(compile(small, f"cell {k}", "exec"), names)
    said = capsys.readouterr().out
    assert len(list(Path("made").rglob("*.png"))) == 64
    kept = {path.relative_to("good/kept") for path in Path("good/kept").rglob("*.png")}
    assert 0.75 * 64 <= len(kept) < 64
    assert f"{len(kept)} of 64 kept" in said
    numbers = [int(path.stem) for path in kept]
    assert names["kept"].sum() == len(kept)
    assert names["kept"][numbers].all()
    k = numbers[0]
    stored = np.asarray(Image.open(next(Path("made").rglob(f"{k:05}.png"))))
    assert np.array_equal(stored, names["made"][k])
    assert Path("explorer.html").stat().st_size > 10_000
    assert names["threshold"].score == "lid"


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    """As a person runs it; another machine trains another model, of which only what is certain is asked."""
    client = pytest.importorskip("nbclient")
    again = nbformat.read(PATH, as_version=4)
    client.NotebookClient(again, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert auroc_within(printed(again))["lid"] > 0.5
