"""One detector on the samples of one model: settings chosen on the validation half, then all scores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from intermode.detect import describe
from intermode.experiments.bench.candidates import candidates
from intermode.experiments.bench.pools import CHAIN, Pool
from intermode.files import load_tensors, save_tensors, write_json
from intermode.generate import score

__all__ = ["ENDS", "auroc", "finite", "halves", "make_cell", "ranks_within", "record_file", "scores_file", "scores_of"]

ENDS = ("random", "oracle")
"""Not detectors, but the ends of the scale."""
CONFORMAL_IMAGES = 200
"""Images of the data that are scored for conformal thresholds, and as many to check them."""
FITTING_IMAGES = 500
"""Images that detectors are fitted on."""


def record_file(path: Path, source: str, name: str) -> Path:
    """Where a cell says what its detector is and costs."""
    return path / source / "cells" / f"{name}.json"


def scores_file(path: Path, source: str, name: str) -> Path:
    """Where a cell keeps its scores: of the samples, and of data for conformal thresholds."""
    return path / source / "cells" / f"{name}.safetensors"


def scores_of(path: Path, source: str, name: str) -> np.ndarray:
    """(n,) scores of the samples."""
    return load_tensors(scores_file(path, source, name))[0]["scores"].numpy()


def finite(scores: np.ndarray) -> np.ndarray:
    """Scores for scikit-learn, which takes no infinity: the largest float keeps its place at the top."""
    return np.nan_to_num(scores, nan=np.finfo(float).max, posinf=np.finfo(float).max)


def halves(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool: validation and test. Kept samples are in random order."""
    validation = np.arange(len(pool.bad)) % 2 == 0
    return validation, ~validation


def make_cell(pool: Pool, config: Any, path: Path, name: str) -> None:
    """Choose the settings on the validation half, then score everything with them."""
    validation, _ = halves(pool)
    record: dict[str, Any]
    if name == "hal":
        quality = {window: auroc(s[validation], pool.bad[validation]) for window, s in pool.hal.items()}
        window = max(quality, key=lambda w: quality[w])
        tensors = {"scores": torch.from_numpy(pool.hal[window])}
        settings = "t = {}..{}".format(*window.removeprefix("hal-").split("-"))
        record = {"settings": settings, "nfe": 0, "relative_time": 0.0}
    else:
        tensors, record = _sample_detector(pool, config, name)
    save_tensors(scores_file(path, pool.source.name, name), tensors)
    write_json(record_file(path, pool.source.name, name), record)  # last: a cell with a record is complete


def _sample_detector(pool: Pool, config: Any, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    validation, _ = halves(pool)
    chunk = 64 if pool.source.image else 1024
    quality: list[float] = []
    found = candidates(name, pool.setting)
    fitting, calibration, checking = pool.real[: config.fitting], *pool.real[config.fitting :].tensor_split(2)
    if pool.source.image:
        fitting = fitting[:FITTING_IMAGES]
        calibration, checking = calibration[:CONFORMAL_IMAGES], checking[:CONFORMAL_IMAGES]
    for detector in found:
        if hasattr(detector, "fit"):
            detector.fit(pool.denoiser, fitting, seed=config.seed)
        if len(found) > 1:
            scores = score(detector, pool.denoiser, pool.x[validation], seed=config.seed, chunk=chunk)  # type: ignore[arg-type] # no trajectory detector
            quality.append(auroc(scores, pool.bad[validation]))
    best: Any = found[int(np.argmax(quality))] if quality else found[0]
    begin = time.perf_counter()
    tensors = {"scores": torch.from_numpy(score(best, pool.denoiser, pool.x, seed=config.seed + 1, chunk=chunk))}
    seconds = (time.perf_counter() - begin) / len(pool.x)
    if name not in ENDS:
        for part, x in (("calibration", calibration), ("checking", checking)):
            scores = score(best, pool.denoiser, x, seed=config.seed + 2, chunk=chunk)
            tensors[part] = torch.from_numpy(scores)
    return tensors, {
        "settings": describe(best),
        "nfe": int(best.nfe),
        "relative_time": seconds / (CHAIN * pool.evaluation_s),
    }


def auroc(scores: np.ndarray, bad: np.ndarray) -> float:
    if bad.all() or not bad.any():
        return 0.5
    return float(roc_auc_score(bad, finite(scores)))


def ranks_within(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The share of the reference below each score, 0..1."""
    ordered, s = np.sort(finite(reference)), finite(scores)
    return (np.searchsorted(ordered, s, "left") + np.searchsorted(ordered, s, "right")) / (2 * len(ordered))
