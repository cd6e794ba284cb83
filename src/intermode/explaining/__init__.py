"""One sample explained: how suspect it is, what it lies between, when it was decided, and whether a restart mends it.

* its score among those of the others (:mod:`intermode.explaining.standing`);
* its two nearest modes or training images, and their blend that fits it best (:mod:`intermode.explaining.blends`);
* x0_hat on its way to it, recorded or noised again, and where in t that moved (:mod:`intermode.explaining.paths`);
* what restarts make of it (:mod:`intermode.explaining.restarts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.data import FITTING, Source, open_source
from intermode.denoisers import Denoiser
from intermode.errors import InputError
from intermode.explaining.blends import Blend, between_modes, between_samples, between_shapes, mode_name
from intermode.explaining.paths import Path, levels_of, renoised
from intermode.explaining.restarts import Restarts, restarted, told_of
from intermode.explaining.standing import Standing
from intermode.explaining.words import sentences
from intermode.explorer.subject import Subject, Trajectories, open_subject
from intermode.files import write_json
from intermode.filtering import scores_from
from intermode.models import as_denoiser
from intermode.noise import NoiseStream
from intermode.progress import Progress
from intermode.repairs import Repair
from intermode.restart import Level
from intermode.samplers import Ancestral, Sampler
from intermode.sampling import Samples, as_condition, check_classes, chunk_for
from intermode.targets.gaussian import GaussianMixture
from intermode.targets.known import of_model
from intermode.targets.shapes import Shapes
from intermode.values import as_whole
from intermode.verbs import as_samples, shown, strict

__all__ = ["Explanation", "check_picture", "explain"]

OTHERS, NOISES, RESTARTS = (512, 64), (64, 4), (256, 16)
"""Of a few numbers each, and of images: samples that are scored where scores are lacking, noises of each level, and
restarts."""
CLASSES = "condition.class_labels"
"""Column of the classes that samples were drawn as."""


@dataclass(frozen=True, repr=False)
class Explanation:
    """What was found of one sample.

    Attributes:
        index: of the sample in its data.
        name: of the sample: a file's, or its index.
        x: (*shape) the sample.
        standing: its score among the others'.
        hallucinated, rule: what a known target says of it; None without one.
        blend: of its two nearest anchors; None if neither modes nor training data are known.
        path: x0_hat on its way to it.
        typical: the same of the sample with the middle score; None where the way was recorded.
        restarts: what these make of it.
        target: what the data is, if that is known.
        data: (m, d) some of the samples, if they are a few numbers each.
    """

    index: int
    name: str
    x: np.ndarray
    standing: Standing
    hallucinated: bool | None
    rule: str | None
    blend: Blend | None
    path: Path
    typical: Path | None
    restarts: Restarts
    target: Any = field(default=None)
    data: np.ndarray | None = None

    @property
    def sentences(self) -> tuple[str, str, str]:
        """What was found, in words."""
        return sentences(self)

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def save(self, path: str | FilePath) -> None:
        """Write the picture, a PNG, and the sentences and numbers beside it, in a file that ends in .json.

        Raises:
            InputError: a name that does not end in .png.
        """
        from intermode.explaining.picture import draw

        path = FilePath(path)
        check_picture(path)
        draw(path, self)
        write_json(path.with_suffix(".json"), self.record)

    @property
    def record(self) -> dict[str, Any]:
        """All that was found, as JSON."""
        s, r, blend = self.standing, self.restarts, self.blend
        return {
            "sample": self.name,
            "index": self.index,
            "sentences": list(self.sentences),
            "score": {"name": s.name, "value": _finite(s.value), "higher_than": s.lower, "of": len(s.values) - 1},
            "computed_here": s.computed,
            "hallucinated": self.hallucinated,
            "rule": self.rule,
            "blend": None
            if blend is None
            else {
                "between": list(blend.names),
                "distances": list(blend.distances),
                "weight": blend.weight,
                "residual": blend.residual,
            },
            "x0_hat": {
                "recorded": self.path.recorded,
                "timesteps": self.path.timesteps.tolist(),
                "distance": [_finite(v) for v in self.path.away.tolist()],
                "moved": self.path.moved,
                "typical_moved": None if self.typical is None else self.typical.moved,
            },
            "restarts": {
                "from": r.t,
                "count": len(r.good),
                "good": int(r.good.sum()),
                "where": r.where,
                "limit": None if r.limit is None else r.limit[1],
            },
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def check_picture(path: FilePath) -> None:
    """Raise InputError unless a picture can be written to that path."""
    if path.suffix != ".png" or path.is_dir():
        raise InputError(f"out: {path} must be a file that ends in .png")


@dataclass(frozen=True)
class _Given:
    """The samples, whatever form they were given in: n of them, and how to read some."""

    n: int
    ids: Callable[[int], str]
    read: Callable[[np.ndarray], Tensor]
    scores: Mapping[str, np.ndarray]
    classes: np.ndarray | None = None
    trajectories: Trajectories | None = None


@strict
def explain(
    model: Denoiser | str | FilePath,
    samples: Any,
    index: int,
    *,
    scores: Any = None,
    by: str | None = None,
    data: Any = None,
    target: Any = None,
    condition: Mapping[str, Any] | None = None,
    column: str | None = None,
    level: Level | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Explanation:
    """Explain one sample: its score among the others', what it lies between, when it was decided, what a restart does.

    >>> found = intermode.explain("gaussian-1d", samples, 17)
    >>> print(found)
    >>> found.save("sample-17.png")

    Args:
        model: a denoiser, or what :func:`intermode.load` takes.
        samples: :class:`intermode.Samples`, an array or tensor (n, *shape); or the path of a data set, of a folder that
            ``sample`` wrote, or of the run of a study.
        index: of the sample, 0..n - 1.
        scores: of all samples, larger = more suspect: numbers, or the path of a file of them. Unless given those that
            the samples bring; without any some of the samples are scored, by ``lid`` of 4 noises.
        by: name of the score, where there are several; unless given ``lid`` if it is among them, else the first.
        data: training data, among whose first 5,000 the nearest are looked for: a path, or (m, *shape) numbers.
        target: what the data is, if that is known: a mixture or ``Shapes``. That of a shipped model is.
        condition: what the model is told, ``{"class_labels": ...}``: (n,) values, or one class for all; unless given
            the classes that samples were drawn as.
        column: of a table, that holds the samples; found out unless given.
        level: where restarts begin, as :func:`intermode.repair` takes it.
        sampler: how they come down; ``Ancestral()`` unless given.
        seed: noise belongs to (seed, sample index).
        progress: True shows bars.

    Raises:
        InputError: an index that there is not, samples or training data of another shape than the model's, a sample
            that cannot be read, is not finite or has no score, or a level that the schedule does not have.
    """
    denoiser, chain, bars = as_denoiser(model), sampler or Ancestral(), shown(progress)
    seed, shape = as_whole("seed", seed, 0), denoiser.shape
    target = of_model(model) if target is None else target
    if target is not None and tuple(target.shape) != shape:
        raise InputError(f"target: is one of samples of shape {tuple(target.shape)}; the model's are {shape}")
    given = _given(samples, shape, scores, column)
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < given.n:
        raise InputError(f"index: {index} is none of the {given.n:,} samples; must be in 0..{given.n - 1}")
    index = int(index)
    x = given.read(np.array([index])).to(denoiser.device, denoiser.dtype)
    if not torch.isfinite(x).all():
        raise InputError(f"index: sample {given.ids(index)} is not finite: its chain ran away, and nothing is near it")
    if condition is None and given.classes is not None and denoiser.classes:
        condition = {"class_labels": given.classes}
    told = as_condition(condition, given.n, denoiser)
    check_classes(denoiser, told)
    image, settings = len(shape) > 1, Repair(level=level)
    flagging: Any = settings.flagging(shape, denoiser.schedule)
    t = settings.timestep(flagging, shape, denoiser.schedule, chain)
    anchors = None if data is None else _anchors(data, shape)

    def scored(x: Tensor, rows: np.ndarray) -> np.ndarray:
        """Of samples x, as those of these rows."""
        found = []
        size = chunk_for(shape)
        for part, here in zip(x.split(size), np.split(rows, range(size, len(rows), size)), strict=True):
            noise = NoiseStream(
                seed, 0, len(here), shape, purpose="renoise", device=denoiser.device, dtype=denoiser.dtype, rows=here
            )
            found.append(flagging(denoiser, part, noise, **told_of(told, here, denoiser.device)).cpu().numpy())
        return np.concatenate(found)

    standing = _standing(given, index, by)
    others: Tensor | None = None
    pool_scores = np.empty(0)
    if standing is None or target is None or not image:
        rows = np.unique(np.append(np.linspace(0, given.n - 1, min(OTHERS[image], given.n)).astype(np.int64), index))
        others = given.read(rows).to(denoiser.device, denoiser.dtype)
        finite = torch.isfinite(others.flatten(1)).all(1).cpu().numpy()
        rows, others = rows[finite], others[torch.from_numpy(finite)]
    if others is not None and (standing is None or target is None):
        with bars.task("scoring", len(others), 0, "samples") as task:
            pool_scores = scored(others, rows)
            task.advance(len(others))
    if standing is None:
        standing = Standing(flagging.name, float(pool_scores[rows == index][0]), pool_scores, True)
        middle = int(rows[np.argsort(pool_scores, kind="stable")[len(rows) // 2]])
    else:
        middle = _middle(given, by)
    own = told_of(told, np.array([index]), denoiser.device)
    path, typical = _paths(denoiser, given, x, index, middle, own, told, seed, bars)
    outcomes = restarted(denoiser, chain, x, index, t, RESTARTS[image], own, seed, bars)
    labels = None if target is None else target.label(x.cpu())
    if labels is not None:
        end = target.label(outcomes.cpu())
        good, where, limit = ~end.hallucinated, _where(end, target), None
        was_good = not bool(labels.hallucinated[0])
    else:
        threshold = settings.limit(pool_scores, flagging.name)
        after = scored(outcomes, np.full(len(outcomes), index))
        good, where, limit = np.asarray(threshold.keep(after)), {}, (flagging.name, threshold.value)
        was_good = bool(np.asarray(threshold.keep(pool_scores[rows == index]))[0])
    point = x[0].double().cpu().numpy()
    return Explanation(
        index,
        given.ids(index),
        point,
        standing,
        None if labels is None else bool(labels.hallucinated[0]),
        None if labels is None else str(labels.rule[0]),
        _blend(point, anchors, target),
        path,
        typical,
        Restarts(t, outcomes.double().cpu().numpy(), good, where, limit, was_good),
        target,
        None if image or others is None else others.double().cpu().numpy(),
    )


def _given(samples: Any, shape: tuple[int, ...], scores: Any, column: str | None) -> _Given:
    if isinstance(samples, str | FilePath):
        if scores is not None and not isinstance(scores, str | FilePath):
            raise InputError("scores: of samples in files are in a file too; give its path")
        found = open_subject(FilePath(samples), scores=None if scores is None else FilePath(scores), column=column)
        return _of_files(found, open_source(found.source.path, shape, column=column))
    if column is not None:
        raise InputError("column: is for tables in files")
    x = as_samples("samples", getattr(samples, "x", samples), shape)
    if not len(x):
        raise InputError("samples: there are none")
    brought = getattr(samples, "scores", None) or None if scores is None else scores
    known = {} if brought is None else dict(scores_from(brought, "scores").columns)
    for name, values in known.items():
        if len(values) != len(x):
            raise InputError(f"scores: {len(values)} {name} for {len(x)} samples; need one for each")
    told = samples.condition.get("class_labels") if isinstance(samples, Samples) else None
    classes = None if told is None else told.cpu().numpy()
    return _Given(len(x), str, lambda rows: x[torch.from_numpy(rows)], known, classes)


def _of_files(found: Subject, source: Source) -> _Given:
    def read(rows: np.ndarray) -> Tensor:
        parts = []
        for row in rows.tolist():
            block = next(source.blocks(1, row))
            if block.unread:
                if len(rows) == 1:
                    raise InputError(f"index: {source.ids(row, row + 1)[0]} cannot be read ({block.unread[row]})")
                block.values[:] = torch.nan  # of many it is left out
            parts.append(block.values)
        return torch.cat(parts)

    classes = None
    if found.within is not None and found.within[0] == CLASSES:
        classes = found.within[1].astype(np.int64)
    return _Given(len(source), lambda row: source.ids(row, row + 1)[0], read, found.scores, classes, found.trajectories)


def _column(given: _Given, by: str | None) -> tuple[str, np.ndarray] | None:
    if not given.scores:
        if by is not None:
            raise InputError(f"by: there are no scores, so none is named {by}; give scores")
        return None
    name = by if by is not None else "lid" if "lid" in given.scores else next(iter(given.scores))
    if name not in given.scores:
        raise InputError(f"by: no score is named {name!r}; choose from {', '.join(given.scores)}")
    return name, given.scores[name]


def _standing(given: _Given, index: int, by: str | None) -> Standing | None:
    if (column := _column(given, by)) is None:
        return None
    name, values = column
    if np.isnan(values[index]):
        raise InputError(f"scores: sample {given.ids(index)} has no {name or 'score'} (NaN); choose another sample")
    return Standing(name, float(values[index]), values[~np.isnan(values)], False)


def _middle(given: _Given, by: str | None) -> int:
    """The sample with the middle score."""
    column = _column(given, by)
    assert column is not None
    order = np.argsort(column[1], kind="stable")
    return int(order[(~np.isnan(column[1])).sum() // 2])


def _paths(
    denoiser: Denoiser,
    given: _Given,
    x: Tensor,
    index: int,
    middle: int,
    own: dict[str, Any],
    told: dict[str, Any],
    seed: int,
    bars: Progress,
) -> tuple[Path, Path | None]:
    """The way of a sample, and of the one with the middle score if it was noised again."""
    point, shape = x[0].double().cpu().numpy(), tuple(x.shape[1:])
    moved = given.trajectories
    if moved is not None and index in moved.rows:
        taken = moved.x0_hat[:, moved.rows.index(index)].reshape(len(moved.timesteps), 1, *shape)
        return Path.of(moved.timesteps, taken, point, True), None
    levels, count = levels_of(denoiser.schedule), NOISES[len(shape) > 1]
    found = []
    rows = [index] if middle == index else [index, middle]
    with bars.task("noising again", len(rows) * len(levels) * count, 0, "evaluations") as task:
        for row in rows:
            here = x if row == index else given.read(np.array([row])).to(x.device, x.dtype)
            noise = NoiseStream(
                seed, 0, 1, shape, purpose="renoise", device=x.device, dtype=x.dtype, rows=np.array([row])
            )
            what = own if row == index else told_of(told, np.array([row]), x.device)
            x0_hat = renoised(denoiser, here, levels, noise, count, what, task)
            found.append(Path.of(np.array(levels), x0_hat, here[0].double().cpu().numpy(), False))
    return found[0], found[1] if len(found) > 1 else None


def _where(labels: Any, target: Any) -> dict[str, int]:
    """How many outcomes are near each mode; of shapes what each rule says."""
    if isinstance(target, GaussianMixture):
        good = ~labels.hallucinated
        names = [mode_name(target.means[k]) for k in labels.nearest[good]]
        names += [f"no mode ({rule})" for rule in labels.rule[~good]]
    else:
        return {}
    return {name: names.count(name) for name in dict.fromkeys(names)}


def _anchors(data: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """The first of the training data (m, *shape), and their names."""
    if isinstance(data, str | FilePath):
        source = open_source(FilePath(data), shape)
        block = next(source.blocks(FITTING))
        rows = [row for row in range(len(block.values)) if block.first + row not in block.unread]
        x, names = block.values[rows], source.ids(0, len(block.values))
        names = [names[row] for row in rows]
    else:
        x = as_samples("data", data, shape)[:FITTING]
        names = [str(row) for row in range(len(x))]
    if len(x) < 2:
        raise InputError(f"data: {len(x)} training samples that can be read; a blend takes at least two")
    if not torch.isfinite(x).all():
        raise InputError("data: holds numbers that are not finite")
    return x.cpu().numpy(), [f"the training sample {name}" for name in names]


def _blend(x: np.ndarray, anchors: tuple[np.ndarray, list[str]] | None, target: Any) -> Blend | None:
    if anchors is not None:
        return between_samples(x, *anchors)
    if isinstance(target, GaussianMixture):
        return between_modes(x, target)
    return between_shapes(x, target) if isinstance(target, Shapes) else None
