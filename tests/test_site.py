"""The site: no dead link, nothing from elsewhere, every public name described, every number from a kept run."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import intermode
from intermode.files import read_json

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"


def script(name):
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages, links = script("pages"), script("links")


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("watch.md#schedulers", "watch.md#schedulers"),
        ("../README.md", "index.md"),
        ("../CONTRIBUTING.md", "contributing.md"),
        ("figures/sheet.png", "figures/sheet.png"),
        ("../results/origin/long", "results/origin.md#origin-long"),
        ("../results/origin/long/figures/origin.png", "results/origin/long/figures/origin.png"),
        ("../src/intermode/exact.py", "/api/modules/intermode.exact.rst"),
        ("../examples/README.md", "examples.md"),
        ("../examples/azula_denoiser.py", "#azula_denoiser"),
        ("https://arxiv.org/abs/2406.09358", "https://arxiv.org/abs/2406.09358"),
        ("#here", "#here"),
    ],
)
def test_links_of_the_repository_lead_to_where_it_lies_on_the_site(link, leads):
    assert pages.target(ROOT / "docs" / "watch.md", link) == leads


def test_code_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "x.md"
    page.write_text("a <!-- =s/v -->1<!-- / --> [b](../README.md)\n\n```python\nx[0](../README.md)\n```\n")
    assert pages.page(page) == "a 1 [b](index.md)\n\n```python\nx[0](../README.md)\n```\n"


def test_every_public_name_is_on_one_page_of_the_reference():
    listed = [name for names in pages.public().values() for name in names]
    assert sorted(listed) == sorted(intermode.__all__)
    assert {"sample", "watch"} <= set(pages.public()["Functions"])


def test_every_claim_of_every_kept_run_is_on_the_page_of_its_study():
    found = pages.studies()
    kept = sorted((ROOT / "results").glob("*/*/metrics.json"))
    assert {path.parts[-3] for path in kept} == set(found)
    for path in kept:
        metrics = read_json(path)
        for claim in metrics["claims"]:
            assert claim["statement"].replace("|", "\\|") in found[path.parts[-3]]
        for figure in metrics["figures"]:
            assert f"/{metrics['tier']}/figures/{figure}.png" in found[path.parts[-3]]


def test_a_dead_link_and_what_is_fetched_from_elsewhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="s.css"><p id="p"><a href="b.html#q">1</a>'
        '<a href="b.html">2</a> <a href="#p">3</a>'
        '<a href="c.html">4</a> <a href="b.html#x">5</a> <a href="https://elsewhere.org">6</a>'
        '<script src="https://cdn.org/x.js"></script><img src="data:image/png;base64,AA==">'
    )
    (tmp_path / "b.html").write_text('<h1 id="q">b</h1>')
    (tmp_path / "s.css").write_text('@font-face { src: url("https://fonts.org/f.ttf"); } p { background: url(b.png) }')
    assert links.faults(tmp_path) == [
        "a.html: c.html is not there",
        "a.html: b.html#x has no such place",
        "a.html: fetches https://cdn.org/x.js",
        "s.css: fetches https://fonts.org/f.ttf",
    ]


@pytest.mark.parametrize(
    ("tex", "has"),
    [
        (r"\mathbb E x", "&#x1D53C;"),  # browsers know no mathvariant
        (r"\lVert x \rVert^2", 'stretchy="false"'),
        (r"\hat x_0", "<mover"),
    ],
)
def test_mathematics_is_written_as_browsers_read_it(tex, has):
    pytest.importorskip("latex2mathml")
    made = script("mathml").mathml(tex, "inline")
    assert has in made
    assert "mathvariant" not in made


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_without_a_dead_link(tmp_path):
    pytest.importorskip("furo")
    for words in (
        [SITE / "pages.py"],
        ["-m", "sphinx", "-qW", "-b", "html", "-d", tmp_path / "trees", "-c", SITE, pages.SOURCE, tmp_path / "site"],
        [SITE / "links.py", tmp_path / "site"],
    ):
        done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    reference = "".join(path.read_text() for path in (tmp_path / "site" / "api").glob("*.html"))
    for name in intermode.__all__:
        assert f'id="intermode.{name}"' in reference, name
    assert "<math" in (tmp_path / "site" / "api" / "modules" / "intermode.critical.html").read_text()
