"""One detector on the samples of one model: settings chosen on the validation half, then all scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from intermode.detect import describe
from intermode.experiments.bench.candidates import candidates
from intermode.experiments.bench.pools import CHAIN, Pool
from intermode.files import load_tensors, save_tensors, write_json
from intermode.sampling import score

__all__ = ["ENDS", "auroc", "finite", "halves", "make_cell", "ranks_within", "record_file", "scores_file", "scores_of"]

ENDS = ("random", "oracle")
"""Not detectors, but the ends of the scale."""
CONFORMAL_IMAGES = 120
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
    first = np.arange(len(pool.bad)) < len(pool.bad) // 2
    return first & pool.counted, ~first & pool.counted


def make_cell(pools: Sequence[Pool], config: Any, path: Path, name: str) -> None:
    """Choose the settings on the validation half, then score the rest with them.

    Args:
        pools: the same samples with one label or more; settings are chosen for each.
        config: the benchmark's.
        path: of the run.
        name: of the detector.
    """
    made = _hal(pools) if name == "hal" else _sample_detector(pools, config, name)
    for pool, (tensors, record) in zip(pools, made, strict=True):
        save_tensors(scores_file(path, pool.source.name, name), tensors)
        write_json(record_file(path, pool.source.name, name), record)  # last: a cell with a record is complete


Made: TypeAlias = tuple[dict[str, torch.Tensor], dict[str, Any]]
"""Tensors and the record of a cell."""


def _hal(pools: Sequence[Pool]) -> Iterator[Made]:
    """The windows that were watched while the samples were drawn."""
    for pool in pools:
        validation, _ = halves(pool)
        quality = {window: auroc(s[validation], pool.bad[validation]) for window, s in pool.hal.items()}
        window = max(quality, key=lambda w: quality[w])
        settings = "t = {}..{}".format(*window.removeprefix("hal-").split("-"))
        yield {"scores": torch.from_numpy(pool.hal[window])}, {"settings": settings, "nfe": 0, "relative_time": 0.0}


def _sample_detector(pools: Sequence[Pool], config: Any, name: str) -> Iterator[Made]:
    pool = pools[0]
    fitting, calibration, checking = pool.real[: config.fitting], *pool.real[config.fitting :].tensor_split(2)
    if pool.source.image:
        fitting = fitting[:FITTING_IMAGES]
        calibration, checking = calibration[:CONFORMAL_IMAGES], checking[:CONFORMAL_IMAGES]
    found: list[Any] = candidates(name, pool.setting)
    for detector in found:
        if hasattr(detector, "fit"):
            detector.fit(pool.denoiser, fitting, seed=config.seed)

    def scored(detector: Any, x: torch.Tensor, seed: int, first: int = 0) -> np.ndarray:
        chunk = 64 if pool.source.image else 1024
        return score(detector, pool.denoiser, x, seed=config.seed + seed, first=first, chunk=chunk)

    half = len(pool.x) // 2
    validation = [scored(detector, pool.x[:half], 1) for detector in found]
    finished: dict[int, Made] = {}
    for pool in pools:
        counted, bad = pool.counted[:half], pool.bad[:half]
        quality = [auroc(scores[counted], bad[counted]) for scores in validation]
        best = int(np.argmax(quality))
        if best not in finished:
            detector = found[best]
            begin = time.perf_counter()
            test = scored(detector, pool.x[half:], 1, first=half)
            seconds = (time.perf_counter() - begin) / len(test)
            tensors = {"scores": torch.from_numpy(np.concatenate([validation[best], test]))}
            if name not in ENDS:
                for part, x in (("calibration", calibration), ("checking", checking)):
                    tensors[part] = torch.from_numpy(scored(detector, x, 2))
            finished[best] = (
                tensors,
                {
                    "settings": describe(detector),
                    "nfe": int(detector.nfe),
                    "relative_time": seconds / (CHAIN * pool.evaluation_s),
                },
            )
        yield finished[best]


def auroc(scores: np.ndarray, bad: np.ndarray) -> float:
    if bad.all() or not bad.any():
        return 0.5
    return float(roc_auc_score(bad, finite(scores)))


def ranks_within(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The share of the reference below each score, 0..1."""
    ordered, s = np.sort(finite(reference)), finite(scores)
    return (np.searchsorted(ordered, s, "left") + np.searchsorted(ordered, s, "right")) / (2 * len(ordered))
