"""docs/extend.md and the README run as they are written."""

import re
from pathlib import Path

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

from intermode.study import reproduce

ROOT = Path(__file__).parents[1]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)


def test_what_is_extended_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    *examples, study = blocks("docs/extend.md")
    assert "STUDY = Study(" in study
    names = {"__name__": "extend"}
    printed = []
    for block in examples:
        exec(compile(block, "docs/extend.md", "exec"), names)
        printed.append(capsys.readouterr().out)
    assert [" ± " in said for said in printed] == [True, True, False]
    scores = names["FarOut"]
    assert scores.name in printed[2]
    assert np.asarray(names["samples"].x).shape == (1000, 1)
    assert study.count("\n") <= 60
    (tmp_path / "my_study.py").write_text(study)
    metrics = reproduce("my_study.py", "smoke", tmp_path / "run")
    assert [claim["id"] for claim in metrics["claims"]] == ["wider"]
    (claim,) = metrics["claims"]
    assert claim["low"] < claim["measured"] < claim["high"]
    assert (tmp_path / "run" / "report.html").exists()


def test_the_readme_runs_and_can_be_read_in_three_minutes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.ddpm().save_pretrained("my-model")
    names = {}
    watched, verbs = blocks("README.md")
    exec(compile(watched.replace("num_inference_steps=50", "num_inference_steps=20"), "README.md", "exec"), names)
    assert names["kept"].sum() == 15  # nine tenths of 16, rounded up
    exec(compile(verbs.replace("2000", "20"), "README.md", "exec"), names)
    said = capsys.readouterr().out
    assert said.startswith("20 samples of ")
    assert re.search(r"5\.5\d+e-4 ± 0\.\d+e-4\n$", said)
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not link.startswith("http"):
            assert (ROOT / page).parent.joinpath(link).exists(), link
