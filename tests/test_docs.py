"""The code in the documentation runs, and its tables name what there is."""

import re
from pathlib import Path

import numpy as np

from intermode.detect.registry import DETECTORS, IMAGES_ALONE, Setting, make

DETECTORS_PAGE = (Path(__file__).parents[1] / "docs" / "detectors.md").read_text(encoding="utf-8")


def test_examples_run_one_after_the_other():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", DETECTORS_PAGE, re.DOTALL):
        exec(block, names)
        if "scores" in names:
            assert names["scores"].shape == (100,)
            assert np.isfinite(names["scores"]).all()
    assert "FarOut" in names


def test_table_has_every_detector_its_cost_and_whether_it_is_fitted():
    page = DETECTORS_PAGE.split("## Which is best")[0]  # the leaderboard's tables look alike
    rows = re.findall(r"^\| `(.+?)` \| .+? \| (.*?) ?\| (\d+) \|", page, re.MULTILINE)
    listed = {name: (fit == "yes", int(cost)) for name, fit, cost in rows}
    numbers, images = (Setting(shape, target=object()) for shape in ((1,), (1, 8, 8)))
    made = {name: make(name, images if name in IMAGES_ALONE else numbers) for name in DETECTORS}
    assert listed == {name: (hasattr(detector, "fit"), detector.nfe) for name, detector in made.items()}
