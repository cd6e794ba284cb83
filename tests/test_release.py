"""The files that a release and a forge read say what the package says of itself."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_citation_is_of_this_software_and_of_the_paper_that_the_readme_names():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["title"].startswith("intermode: " + re.search(r'description = "(.*?)"', PROJECT)[1].lower()[:22])
    assert cited["license"] == re.search(r'license = "(.*?)"', PROJECT)[1]
    assert "version" not in cited  # git tags alone have it
    (paper,) = cited["references"]
    assert paper["url"] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper["url"].endswith(paper["identifiers"][0]["value"].removeprefix("arXiv:"))


def test_the_workflow_runs_make_on_every_python_from_the_oldest_that_is_promised():
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    pythons = flow["jobs"]["test"]["strategy"]["matrix"]["python"]
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', PROJECT)[1]
    assert pythons == [f"3.{minor}" for minor in range(int(oldest), 14)]
    said = [step["run"] for job in flow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = [words.split()[1] for words in said if words.startswith("make ")]
    assert {"test", "docs"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


@pytest.mark.parametrize(
    "form", sorted(p.name for p in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if p.name != "config.yml")
)
def test_issue_forms_can_be_filled_in(form):
    asked = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / form).read_text(encoding="utf-8"))
    assert asked["name"]
    assert asked["description"]
    ids = [field["id"] for field in asked["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in asked["body"])


def test_a_contributor_finds_what_is_named():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", page, re.MULTILINE):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    for name in re.findall(r"`([\w./]+(?:/|\.py))`", page):
        places = [ROOT / name, ROOT / "src" / "intermode" / name]
        assert "test_x" in name or any(place.exists() for place in places), name
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (ROOT / link).exists(), link
