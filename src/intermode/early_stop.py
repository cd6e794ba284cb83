r"""Early stop: a chain whose sample is suspect at a timestep t already is dropped there, and another begun instead.

What is decided at high noise is decided long before the sample is finished. At the first step of the chain at t or
below, its prediction :math:`\hat x_0` is scored as a finished sample would be; where the score exceeds the threshold,
the chain ends and another one comes down to t from fresh noise, until it passes or the tries are used up. A dropped
chain costs the steps down to t, about (T - t) / T of a whole one, and a score.

A chain agrees with its own error, so that what is seen of it says little; fresh noise tells more. A detector of
finished samples noises :math:`\hat x_0` anew, into its own timesteps: with ``window="critical"`` into those of the
model's critical windows (:mod:`intermode.critical`) that are over at t, where the error was decided. A detector that
watches is asked for what it has seen, and its window must be over, too.

The threshold is found without labels unless one is given: it stops the share of the model's own chains with the highest
scores, measured on some chains that are drawn before. A good chain that is dropped costs its steps and is replaced by
another one; but as with every filter, what a score suspects for another reason, such as much content, is lost.

Random numbers of the k-th try belong to (seed, sample index, k) down to t, and under it to (seed, sample index), as
they do without a stop: chains that are never stopped are, bit for bit, those of :func:`intermode.sample` without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import Detector, describe, watches
from intermode.detect.bias import Bias
from intermode.detect.critical import InWindows, windows_of
from intermode.detect.registry import Setting, resolve
from intermode.detect.window import asks_critical, places
from intermode.errors import InputError
from intermode.noise import NoiseStream
from intermode.progress import Progress, Silent
from intermode.restart import Level, timestep_of
from intermode.samplers import Sampler, Step
from intermode.sampling import Samples, even_chunk
from intermode.schedules import Schedule
from intermode.thresholds import Threshold
from intermode.treated import Treated, known
from intermode.values import as_whole
from intermode.watched import Watched, copied

__all__ = ["EarlyStop", "EarlyStopped", "Stop"]

SEED = 2**31 + 2
"""Of the chains that a threshold is found with: apart from those that people choose."""
CHAINS = 1000, 128
"""How many, of samples of a few numbers and of images."""


@dataclass(frozen=True)
class EarlyStop:
    """When chains are dropped: a setting of :func:`intermode.sample`.

    Args:
        detector: an object or a name; of finished samples, which scores x0_hat, or one that watches. With
            ``window="critical"`` it looks into the critical windows that are over at t. Unless given ``bias`` there.
        t: where it is asked: a timestep, a share of T, or a window such as ``SNR(low, high)``: its noisiest timestep.
            Unless given where the model's last critical window, the noisiest, is just over.
        threshold: the largest score that passes, a number or a :class:`Threshold` of this score. Unless given that
            which stops ``share`` of the model's own chains.
        share: of the chains that are stopped, where no threshold is given.
        tries: chains begun for a sample in place of the first, at most; the last one is kept whatever its score.

    Raises:
        InputError: settings that are none.
    """

    detector: Any = None
    t: Level | None = None
    threshold: Threshold | float | None = None
    share: float = 0.1
    tries: int = 5

    def __post_init__(self) -> None:
        as_whole("tries", self.tries, 1)
        if not 0 < self.share < 1:
            raise InputError(f"share: {self.share} of the chains cannot be stopped; must lie between 0 and 1")

    def ready(
        self, denoiser: Denoiser, sampler: Sampler, condition: Mapping[str, Any], progress: Progress | None = None
    ) -> Stop:
        """The stop of a model's chains; its threshold is found now, if none is given.

        Raises:
            InputError: a timestep that the chain does not come to, a detector that cannot score there, no critical
                window that is over at t, or a threshold of another score.
        """
        schedule = denoiser.schedule
        try:
            level = timestep_of(windows_of(denoiser).windows[-1].low if self.t is None else self.t, schedule)
        except InputError as error:
            raise InputError(f"t: {str(error).removeprefix('level: ')}") from None
        visited = sampler.descents(schedule)[0]
        at = next((t for t in visited if t <= level), None)
        if at is None or at == visited[-1]:
            raise InputError(f"t: {level} leaves nothing of a chain to stop; it comes down to {visited[-1]}")
        detector = _detector(self.detector, denoiser, sampler, at)
        _check(detector, sampler, schedule, at)
        stop = Stop(detector, at, visited, Threshold(float("inf"), score=detector.name), self.tries)
        given = self.threshold
        if given is None:
            return replace(
                stop, threshold=_threshold(stop, denoiser, sampler, condition, self.share, progress or Silent())
            )
        if isinstance(given, Threshold):
            if given.score not in (None, detector.name):
                raise InputError(f"threshold: is one of {given.score}, not of {detector.name}")
            return replace(stop, threshold=replace(given, score=detector.name))
        return replace(stop, threshold=Threshold(float(given), score=detector.name))


def _detector(asked: Any, denoiser: Denoiser, sampler: Sampler, at: int) -> Detector:
    """The one detector that is asked at a timestep."""
    asked = Bias(window="critical") if asked is None else asked
    if asks_critical(asked) and not watches(asked):
        over = [window for window in windows_of(denoiser).windows if window.low >= at]
        if not over:
            listed = ", ".join(map(str, windows_of(denoiser).windows))
            raise InputError(f"t: none of the critical windows {listed} is over at t = {at}; stop later")
        return InWindows(asked, over, denoiser)
    setting = Setting(denoiser.shape, timesteps=len(denoiser.schedule), model=denoiser, sampler=sampler)
    found = resolve(asked, setting)
    if len(found) != 1:
        raise InputError(f"detector: {len(found)} are given; give the one whose threshold a chain has to pass")
    return found[0]


@dataclass(frozen=True)
class Stop:
    """A stop of one model's chains, as it travels to whoever draws them.

    Attributes:
        detector: scores a chain.
        at: the visited timestep where it does.
        visited: timesteps of the chain before all restarts.
        threshold: the largest score that passes.
        tries: chains begun in place of the first, at most.
    """

    detector: Detector
    at: int
    visited: tuple[int, ...]
    threshold: Threshold
    tries: int

    @property
    def place(self) -> int:
        """Of the timestep among those that are visited."""
        return self.visited.index(self.at)

    @property
    def described(self) -> dict[str, Any]:
        """What tells it from others, for the record."""
        about = {"detector": f"{self.detector.name}: {describe(self.detector)}", "t": self.at, "tries": self.tries}
        return about | {"threshold": repr(self.threshold.value)}

    @torch.no_grad()
    def down(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        noise: NoiseStream,
        asked: NoiseStream,
        own: Mapping[str, Any],
        x_T: Tensor | None = None,
    ) -> Iterator[tuple[Step, Tensor | None]]:
        """The steps down to the timestep, the last one with the (B,) scores of its chains; ``asked`` is the noise of
        the detector."""
        detector = self.detector
        watching = copied(detector, denoiser) if watches(detector) else None
        x_T = noise() if x_T is None else x_T
        if watching is not None:
            watching.start(x_T.shape)
        for step in sampler(denoiser, x_T, noise, **own):
            if watching is not None:
                watching.update(step)
            if step.t > self.at:
                yield step, None
            elif watches(detector):
                assert watching is not None
                yield step, watching.score()
                return
            else:
                yield step, detector(denoiser, step.x0_hat, asked, **own)
                return

    def drawn(self, samples: Samples, tensors: Mapping[str, Tensor], chain: int) -> EarlyStopped:
        """What was drawn with it: samples, with what is known of them and the network evaluations of a whole chain."""
        tries, passed = (tensors[name].numpy() for name in EarlyStopped.flags)
        dropped = int((tries - 1).sum()) * (self.place + 1)
        scoring = 0 if watches(self.detector) else int(tries.sum()) * self.detector.nfe
        return EarlyStopped(
            **known(samples),
            evaluations=dropped,
            scoring=scoring,
            chain=chain,
            threshold=self.threshold,
            tries=tries,
            passed=passed,
        )

    def steps(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        x_T: Tensor,
        noise: NoiseStream,
        wanted: int,
        own: Mapping[str, Any],
        watched: Watched,
        said: dict[str, Tensor],
    ) -> Iterator[Step]:
        """The steps of a chunk of chains, at whose stop some have given way to others.

        Args:
            denoiser, sampler, x_T, noise: the chain.
            wanted: chains beyond so many are drawn in vain, and not stopped.
            own: the condition of each.
            watched: is shown the steps of the chains that are begun here.
            said: what becomes of each: ``tries`` and ``passed``.
        """
        scores, x = torch.empty(0), x_T
        for step, found in self.down(denoiser, sampler, noise, noise.of("renoise"), own, x_T):
            yield step
            if found is not None:
                scores, x = found.cpu(), step.x_next.clone()
        index = np.arange(noise.start, noise.start + noise.count)
        tries, passed = torch.ones(len(x), dtype=torch.int64), torch.from_numpy(self.threshold.keep(scores.numpy()))
        passed[wanted:] = True
        for number in range(1, self.tries + 1):
            rows = torch.from_numpy(np.flatnonzero(~passed.numpy()))
            if not len(rows):
                break
            again = noise.of("retry", rows=index[rows.numpy()], restart=number)
            asked = again.of("renoise", restart=number)
            cut = {k: v[rows.to(v.device)] if isinstance(v, Tensor) else v for k, v in own.items()}
            group = watched.join(rows.to(x.device))
            for step, found in self.down(denoiser, sampler, again, asked, cut):
                group.update(step)
                if found is not None:
                    x[rows.to(x.device)] = step.x_next
                    passed[rows] = torch.from_numpy(self.threshold.keep(found.cpu().numpy()))
            tries[rows] += 1
        said |= {"tries": tries, "passed": passed}
        following = self.visited[self.place + 1]
        for step in sampler(denoiser, x, noise, start=following, **own):
            if step.restart == 0:
                step = replace(step, index=self.visited.index(step.t), steps=len(self.visited))
            yield step


def _check(detector: Detector, sampler: Sampler, schedule: Schedule, at: int) -> None:
    """Raise InputError if the chain comes back above the timestep, or if the detector cannot score it there."""
    first, *later = sampler.descents(schedule)
    if high := max((descent[0] for descent in later if descent[0] >= at), default=0):
        raise InputError(f"t: the chain comes back to t = {high}, above {at}, where it would be stopped; stop later")
    if not watches(detector):
        detector.check(schedule)
        return
    down = [t for t in first if t >= at]
    detector.check(schedule, down)
    several: Any = getattr(detector, "windows", None) or (getattr(detector, "window", None),)
    held = [place.t for place in places(schedule, first) if any(w is None or w.holds(place) for w in several)]
    if min(held) < at:
        listed = ", ".join("the whole chain" if window is None else f"{window}" for window in several)
        raise InputError(f"t: {detector.name}'s window {listed} is not over at t = {at}; stop later")


def _threshold(
    stop: Stop, denoiser: Denoiser, sampler: Sampler, condition: Mapping[str, Any], share: float, progress: Progress
) -> Threshold:
    """That which stops a share of the model's own chains."""
    shape, n = denoiser.shape, CHAINS[len(denoiser.shape) > 1]
    chunk, scores = even_chunk(n, shape), []
    with progress.task("looking for a threshold", n, 0, "chains") as task:
        for first in range(0, n, chunk):
            noise = NoiseStream(SEED, first, min(chunk, n - first), shape, device=denoiser.device)
            own = {
                name: value[torch.arange(first, first + noise.count) % len(value)].to(denoiser.device)
                if isinstance(value, Tensor)
                else value
                for name, value in condition.items()
            }
            found = [told for _, told in stop.down(denoiser, sampler, noise, noise.of("renoise"), own)][-1]
            assert found is not None, "the timestep is visited"
            scores.append(found.cpu())
            task.advance(noise.count)
    return Threshold.quantile(torch.cat(scores).numpy(), 1 - share, score=stop.detector.name)


@dataclass(frozen=True, repr=False)
class EarlyStopped(Treated):
    """Samples some of whose chains were stopped and begun anew; what is said is said of all n, in their order.

    Attributes:
        tries: (n,) int64, chains begun for each; 1 where the first was not stopped.
        passed: (n,) bool, the last chain passed. Where it did not it was finished all the same.
        evaluations: of the network in chains that were dropped, of all samples together.
        scoring: of the network to score chains.
        chain: network evaluations of a whole chain, for comparison.
        threshold: that a chain has to pass.
    """

    tries: np.ndarray
    passed: np.ndarray
    flags: ClassVar = ("tries", "passed")

    @property
    def stopped(self) -> np.ndarray:
        """(n,) bool, the first chain was dropped. All others are bit for bit what they are without a stop."""
        return self.tries > 1

    def told(self) -> str:
        """What was done, in words."""
        return (
            f"{int(self.stopped.sum()):,} of {len(self):,} stopped and begun anew, {int((~self.passed).sum()):,} of "
            f"them in vain: {self.threshold}; {self.costs('dropped chains')}"
        )

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n  early stop: {self.told()}"
