"""A wheel from a fresh clone is complete: what it holds and what it declares is enough to work outside the repository.

The environment is empty but for the wheel and links to the distributions that it requires, and that those require in
turn. So a module, a file of the package or a dependency that is not declared is missed, without network and without a
second copy of torch. That the declared versions can be had from a registry is not shown by it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from intermode.provenance import commit_of

ROOT = Path(__file__).parents[1]


def run(*words, cwd):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it may lead to the sources
    env["OMP_NUM_THREADS"] = "1"
    done = subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What is committed, without any tag."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    folder = tmp_path_factory.mktemp("fresh") / "intermode"
    run("git", "clone", "-q", "--no-tags", ROOT, folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(clone):
    """Built from the source distribution, as a registry's users get it."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", clone / "dist", clone, cwd=clone)
    (found,) = (clone / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "-q", "--no-index", "--no-deps", wheel, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in required(next(site.glob("intermode-*.dist-info"))):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {".."}:
            link, there = site / top, Path(distribution.locate_file(top))
            if there.exists() and not link.exists():  # several share a folder, such as __pycache__
                link.symlink_to(there)
    return folder


def required(info):
    """Names of all distributions that are required, directly or not, where Python and the system are these."""
    from packaging.requirements import Requirement

    found, todo = set(), [(metadata.Distribution.at(info), ())]
    while todo:
        distribution, extras = todo.pop()
        for words in distribution.requires or ():
            requirement = Requirement(words)
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            )
            key = (requirement.name.lower(), *sorted(requirement.extras))
            if wanted and key not in found:
                found.add(key)
                todo.append((metadata.distribution(requirement.name), tuple(requirement.extras)))
    return {name for name, *_ in found}


@pytest.mark.slow
def test_the_wheel_has_all_files_of_the_package_and_is_small(clone, wheel):
    tracked = run("git", "ls-files", "src/intermode", cwd=clone).split()
    assert len(tracked) > 100
    listed = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=clone)
    missing = [path for path in tracked if not re.search(rf"^{re.escape(path[4:])} ", listed, re.MULTILINE)]
    assert missing == []
    assert wheel.stat().st_size < 10e6


@pytest.mark.slow
def test_it_runs_outside_the_repository_and_says_what_it_was_built_from(clone, environment, tmp_path):
    program, head = environment / "bin" / "intermode", run("git", "rev-parse", "HEAD", cwd=clone).strip()
    count = run("git", "rev-list", "--count", "HEAD", cwd=clone).strip()
    said = run(program, "--version", cwd=tmp_path).split()[1]
    number, commit = said.split("+g")
    assert number == f"0.1.dev{count}"  # the clone has no tags
    assert head.startswith(commit)
    where = run(environment / "bin" / "python", "-c", "import intermode; print(intermode.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment))

    assert run(program, "sample", "gaussian-1d", "-n", "1000", "--out", "drawn", cwd=tmp_path)
    assert (tmp_path / "drawn" / "samples.safetensors").exists()
    run(program, "reproduce", "gaussian-1d", "--tier", "smoke", cwd=tmp_path)
    made = json.loads((tmp_path / "runs" / "gaussian-1d-smoke" / "metrics.json").read_text())
    assert made["claims"]
    assert (made["commit"], made["versions"]["intermode"]) == (commit, said)
    assert (tmp_path / "runs" / "gaussian-1d-smoke" / "report.html").exists()


@pytest.mark.slow
def test_the_version_is_that_of_the_tag(clone):
    def version(folder):
        return run(sys.executable, "-m", "setuptools_scm", cwd=folder).strip()

    run("git", "tag", "v9.8.7", cwd=clone)
    try:
        assert version(clone) == "9.8.7"
    finally:
        run("git", "tag", "-d", "v9.8.7", cwd=clone)
    files = clone.parent / "archive"  # of a forge: neither git nor the record of an sdist
    files.mkdir()
    shutil.copy(clone / "pyproject.toml", files)
    assert version(files) == "0.0"


def test_thecommit_of_a_version():
    assert commit_of("0.1.dev216+g11fb32585") == "11fb32585"
    assert commit_of("0.1.dev216+g11fb32585.d20261128") == "11fb32585+"
    assert commit_of("0.1.0") is None
