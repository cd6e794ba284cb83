"""The study of what makes a model draw two of a kind: what is changed, counted and claimed."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from intermode import reproduce
from intermode.errors import InputError
from intermode.files import read_json
from intermode.jobs import Done, Running
from intermode.progress import Silent
from intermode.studies.shapes_causes import KINDS, STUDY, Config, count, every
from intermode.study import configured
from intermode.study.configs import Images
from intermode.targets.shapes import Shapes


def test_each_variant_differs_from_the_base_in_one_thing():
    config = configured(STUDY, "long")
    models = every(config)
    base = asdict(models["base"])
    for name, model in models.items():
        there = asdict(model)
        differing = [k for k in base if base[k] != there[k]] + [type(model)] * (type(model) is not type(models["base"]))
        assert len(differing) == (name != "base"), name
    assert models["fresh-images"].fresh() is models["fresh-images"].target.target
    assert models["stable-target"].training().targets == "posterior"
    assert models["predicts-noise"].prediction == "eps"
    assert models["predicts-image"].prediction == "x0"
    x_t = torch.randn(2, 1, 64, 64)
    ideal = models["ideal-target"].ideal()
    assert torch.equal(ideal(x_t, 500), Shapes(keep_blank=True).denoiser(models["base"].noise.schedule)(x_t, 500))


def test_images_are_counted_by_kind(tmp_path, monkeypatch):
    target = Shapes(keep_blank=True)
    images = target.sample(400, 0)[:, 0].numpy()
    blank = int((images.max((1, 2)) < 0).sum())
    triangles = [image for image in images if (image[:, :21] > 0).any() and not (image[:, 21:] > 0).any()]
    low = [image for image in triangles if not (image[:30] > 0).any()]
    high = [image for image in triangles if not (image[34:] > 0).any()]
    two = np.maximum(low[0], high[0])
    x = torch.from_numpy(np.concatenate([images, two[None]]))[:, None]
    labels = target.label(x)
    monkeypatch.setattr("intermode.studies.shapes_causes.labelled", lambda done, of: of.target.label(x))
    running = Running(tmp_path, {"target": Images(True)}, {"pool": Done(tmp_path, {}, {})}, {}, Silent())
    found = count(running)
    assert blank > 20
    assert found == {
        "images": 401,
        "two-of-a-kind": 1,
        "between-places": 0,
        "deformed": 0,
        "blank": blank,
        "off-support": 1,
        "shapes": pytest.approx(labels.counts_by_kind.sum() / 401),
    }


def test_the_smoke_tier_compares_all(tmp_path):
    metrics = reproduce("shapes-causes", "smoke", tmp_path / "run")
    rows = metrics["series"]["kinds"]
    assert [row["variant"] for row in rows] == list(every(configured(STUDY, "smoke")))
    assert {claim["id"] for claim in metrics["claims"]} == {"local", "field-of-view", "finite-data", "target-noise"}
    for row in rows:
        done = next((tmp_path / "run" / "jobs").glob(f"{row['variant']}-counts-*/result.json"))
        facts = read_json(done)["facts"]
        assert facts["images"] == 16
        for kind in KINDS:
            assert row[kind][0] == facts[kind] / 16
    assert metrics["missing"] == []
    assert set(metrics["figures"]) == {"causes"}


def test_one_can_train_some(tmp_path):
    config = configured(STUDY, "smoke", {"names": ("base", "fresh-images")})
    assert {name.rpartition("-")[0] for name in STUDY.jobs(config)} == {"base", "fresh-images"}
    assert [claim.id for claim in STUDY.claims(config)] == ["local", "finite-data"]
    with pytest.raises(InputError, match="names: unknown 'bases'; choose from base, whole-image"):
        Config(names=("bases",))
