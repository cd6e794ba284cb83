r"""The training loop: denoising with a mean squared error at uniform timesteps (Ho et al. 2020, eq. 14).

.. math::
    \min_\theta \; \mathbb E_{x_0, t, \varepsilon} \bigl\| f_\theta(a_t x_0 + s_t \varepsilon, t) - y \bigr\|^2

with :math:`y = \varepsilon` unless the network predicts something else, or learns its mean
(:mod:`intermode.training_targets`). Batch, timesteps and noise of a step are drawn from (seed, step), so a resumed run
needs no generator's state and goes on bit for bit. `accelerate` places the work on one device or many: each process
computes its share of the same global batch.

:func:`train` is for everybody and chooses what is not given by the data's shape; :func:`fit` trains a network that is
there.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from intermode.denoisers import Denoiser, NetworkDenoiser, Prediction
from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.models import check_saving, load_model, provenance_of, save_model
from intermode.networks import build
from intermode.noise import draws
from intermode.progress import Progress, Silent
from intermode.provenance import provenance
from intermode.schedules import Schedule, cosine, linear
from intermode.targets import Target
from intermode.training_targets import ReferenceMean, objective
from intermode.verbs import as_samples, shown, strict

__all__ = ["TrainConfig", "Trained", "default_network", "fit", "train"]

LOSS_POINTS = 200
"""Points of the loss curve, each a mean over an equal share of the steps."""
DRAWS = 1000
"""Of a target, that tell it from others."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: optimiser steps.
        batch: samples in a step, over all processes.
        learning_rate: of Adam, at the start.
        decay: ``cosine`` lets the learning rate fall to zero; ``none`` keeps it (the paper).
        ema: decay of an exponential moving average of the weights, e.g. 0.999; 0 for none (the paper).
        drop: share of the labels that are kept from the network, 0..1.
        targets: ``noise`` learns from what was drawn, ``posterior`` from its mean given x_t over a reference batch of
            the data, which takes the noise out of the target; see :mod:`intermode.training_targets`.
        reference: points of that batch, drawn in each step; the whole data set where it has no more. A step costs so
            many multiplications more for each number of the batch.
        seed: of the batches and of the noise.
        checkpoint_every: steps between checkpoints.
        precision: ``no`` (float32), ``bf16`` or ``fp16``, as `accelerate` names them.
        compile: compile the network with torch's inductor.
        track: a tracker of `accelerate` (``tensorboard``, ``wandb``, ...), or none.

    Raises:
        InputError: a value out of its range.
    """

    steps: int = 4000
    batch: int = 1000
    learning_rate: float = 1e-3
    decay: Literal["cosine", "none"] = "cosine"
    ema: float = 0.0
    drop: float = 0.1
    targets: Literal["noise", "posterior"] = "noise"
    reference: int = 1000
    seed: int = 0
    checkpoint_every: int = 1000
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    track: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "reference", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate: {self.learning_rate} must be > 0")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema: {self.ema} is outside [0, 1)")
        if not 0 <= self.drop <= 1:
            raise InputError(f"drop: {self.drop} is outside [0, 1]")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed} must be at least 0")
        if self.precision not in ("no", "bf16", "fp16"):
            raise InputError(f"precision: unknown {self.precision!r}; choose no, bf16 or fp16")
        if self.decay not in ("cosine", "none"):
            raise InputError(f"decay: unknown {self.decay!r}; choose cosine or none")
        if self.targets not in ("noise", "posterior"):
            raise InputError(f"targets: unknown {self.targets!r}; choose noise or posterior")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if self.decay == "none":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Trained(NetworkDenoiser):
    """A trained denoiser, with the averaged weights if there is an EMA.

    Attributes:
        losses: up to (200,) float64, the mean loss over equal shares of the steps.
        seconds: spent on optimiser steps, over all runs.
    """

    def __init__(self, denoiser: NetworkDenoiser, losses: np.ndarray, seconds: float) -> None:
        super().__init__(denoiser.network, denoiser.schedule, denoiser.prediction)
        self.losses, self.seconds = losses, seconds

    def record(self, samples: int) -> dict[str, Any]:
        """What there is to say of a training on so many samples, for the record of the model."""
        losses = [round(float(loss), 6) for loss in self.losses]
        return {"training_samples": samples, "train_s": self.seconds, "losses": losses}

    def __repr__(self) -> str:
        return f"model of samples of shape {self.shape}, loss {self.losses[-1]:.4g}, trained in {self.seconds:.0f} s"


@strict
def train(
    data: Any,
    *,
    network: nn.Module | dict[str, Any] | None = None,
    schedule: Schedule | None = None,
    prediction: Prediction | None = None,
    labels: Any = None,
    steps: int = 4000,
    batch: int | None = None,
    learning_rate: float = 1e-3,
    decay: Literal["cosine", "none"] = "cosine",
    ema: float | None = None,
    drop: float = 0.1,
    targets: Literal["noise", "posterior"] = "noise",
    reference: int = 1000,
    seed: int = 0,
    precision: Literal["no", "bf16", "fp16"] = "no",
    compile: bool = False,
    checkpoint_every: int = 1000,
    track: str | None = None,
    device: str = "cpu",
    out: str | Path | None = None,
    progress: Progress | bool | None = None,
) -> Trained:
    """Train a model; what is returned goes straight into ``sample``, ``score`` and ``off_support``.

    What is not given follows the data: for samples of a few numbers (n, d) the paper's residual MLP and schedule,
    ``linear()``, noise as the prediction, batches of 1000 and no average of the weights; for images (n, C, H, W) a
    small U-Net, ``cosine()``, the prediction v, batches of 32 and an average over about the last 1000 steps.

    Args:
        data: training samples, an array, list or tensor: (n, d), (n, C, H, W), or n numbers. Images are in -1..1, or
            bytes.
        network: a module, which is trained in place, or a description for :func:`intermode.networks.build`.
        schedule: the forward process.
        prediction: what the network predicts: ``eps``, ``x0``, ``v`` or ``flow``.
        labels: (n,) classes 0..K - 1 to condition on; the default network is then told one of them.
        steps, batch, learning_rate, decay, ema, drop, targets, reference, precision, compile, checkpoint_every, track:
            see :class:`TrainConfig`.
        seed: of weights, batches and noise.
        device: ``cpu`` or ``cuda``.
        out: the folder of the model, as :func:`intermode.load` opens it; a training that was interrupted goes on from
            it, and a finished one is loaded.
        progress: True shows a bar.

    Raises:
        InputError: data or settings that cannot be trained with, or a folder of another training.
        FloatingPointError: the loss is no longer finite.
    """
    x = as_samples("data", data).to(torch.float32)
    image = x.ndim > 2
    classes = None if labels is None else torch.as_tensor(np.asarray(labels)).to(torch.int64)
    config = TrainConfig(
        steps=steps,
        batch=(32 if image else 1000) if batch is None else batch,
        learning_rate=learning_rate,
        decay=decay,
        ema=(0.999 if image else 0.0) if ema is None else ema,
        drop=drop,
        targets=targets,
        reference=reference,
        seed=seed,
        checkpoint_every=checkpoint_every,
        precision=precision,
        compile=compile,
        track=track,
    )
    if len(x) == 0:
        raise InputError("data: there are no training samples")
    if network is None:
        told = 0 if classes is None or len(classes) == 0 else int(classes.max()) + 1
        network = default_network(tuple(x.shape[1:]), told)
    if isinstance(network, dict):
        network = build(network, seed)
    schedule = schedule or (cosine() if image else linear())
    prediction = prediction or ("v" if image else "eps")
    shows = shown(progress)
    if out is None:
        return fit(network, schedule, x, config, prediction=prediction, labels=classes, device=device, progress=shows)
    folder = Path(out)
    check_saving(network, schedule, prediction)
    _claim(folder, _identity(network, schedule, x, config, prediction, classes))
    if (folder / "config.json").exists():
        try:
            record = provenance_of(folder)
            return Trained(load_model(folder).to(device), np.array(record["losses"]), record["train_s"])
        except InputError as error:
            shows.notice(f"{error}; training it again")
            (folder / "config.json").unlink()
    trained = fit(
        network,
        schedule,
        x,
        config,
        prediction=prediction,
        labels=classes,
        folder=folder,
        device=device,
        progress=shows,
    )
    made = provenance(device, torch.get_num_threads() if device == "cpu" else None)
    record = {**made, "target": "own data", "training": asdict(config), **trained.record(len(x))}
    save_model(folder, trained, record)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return trained


def default_network(shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
    """Description of a small network for samples of ``shape``.

    Args:
        shape: (d,), or (C, H, W) with H = W.
        classes: how many it is told; images only.

    Raises:
        InputError: another shape, or classes of samples that are no images.
    """
    if len(shape) == 1:
        if classes:
            raise InputError("labels: the default network of flat samples is told no classes; give a network that is")
        return {"kind": "mlp", "dimensions": shape[0]}
    if len(shape) != 3 or shape[1] != shape[2]:
        raise InputError(f"data: samples of shape {shape}; without a network it must be (n, d) or square images")
    side = shape[1]
    # patches that leave at least 8 x 8 of them, then as many halvings as divide them, at most two
    patch = next((p for p in (4, 2) if side % p == 0 and side // p >= 8), 1)
    levels = next(k for k in (3, 2, 1) if side // patch % 2 ** (k - 1) == 0)
    return {
        "kind": "unet",
        "sample_size": side,
        "in_channels": shape[0],
        "patch": patch,
        "channels": [64] * levels,
        "attention": [levels - 1] if levels > 1 else [],
        "classes": classes,
    }


def _claim(folder: Path, identity: dict[str, str]) -> None:
    """Take a folder for a training; that of another one, or of other things, is refused."""
    record = folder / "training.json"
    if record.exists():
        found = read_json(record)
        if differing := [k for k in identity if found.get(k) != identity[k]]:
            listed = ", ".join(f"{k} is {found.get(k, 'nothing')} there and {identity[k]} here" for k in differing)
            raise InputError(f"out: {folder} holds another training ({listed}); choose another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"out: {folder} is not an empty folder; choose another")
    write_json(record, identity)


def fit(
    network: nn.Module,
    schedule: Schedule,
    data: Tensor | Target,
    config: TrainConfig,
    *,
    prediction: Prediction = "eps",
    folder: Path | None = None,
    labels: Tensor | None = None,
    ideal: Denoiser | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    watch: Callable[[int, NetworkDenoiser], None] | None = None,
    watch_every: int = 0,
) -> Trained:
    """Train ``network`` in place.

    Args:
        network: with fresh weights; its ``description`` (if any) is part of the checkpoint's identity.
        schedule: the forward process.
        data: (n, *shape) float32 training samples; or a target, of which every batch is drawn anew.
        config: how to train.
        prediction: what the network predicts.
        labels: (n,) int64 classes 0..K - 1, told to a network that takes ``class_labels``; at a share ``drop`` of the
            config it is told class K, "none given", so that it can be guided (Ho & Salimans 2022, algorithm 1).
        ideal: learn its x0_hat, an E[x_0 | x_t] in closed form, from the same batches in place of what was drawn.
        folder: for ``checkpoint.safetensors``; a killed run goes on from it, bit for bit on a CPU.
        device: ``cpu`` or ``cuda`` (under ``accelerate launch``: that process's device).
        progress: shown to the user.
        watch, watch_every: called with (steps done, denoiser) every so many steps and at the end.

    Raises:
        InputError: no data, data that is not finite, or a checkpoint of another training.
        FloatingPointError: the loss is no longer finite.
    """
    none_given = 0
    if isinstance(data, Tensor):
        if len(data) == 0:
            raise InputError("data: there are no training samples")
        if not torch.isfinite(data).all():
            raise InputError("data: holds values that are not finite")
        if labels is not None:
            none_given = _none_given(network, data, labels)
    elif labels is not None or config.targets == "posterior":
        raise InputError("data: points that are drawn anew have no labels and no reference batch; give samples")
    from accelerate import Accelerator

    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=config.precision,
        dynamo_backend="inductor" if config.compile else "no",
        log_with=config.track,
        project_dir=str(folder) if folder else None,
    )
    progress = progress or Silent()
    state = _State(network.to(accelerator.device), config, accelerator)
    path = folder / "checkpoint.safetensors" if folder else None
    identity = _identity(network, schedule, data, config, prediction, labels, ideal)
    if path and path.exists():
        state.load(path, identity)
        progress.notice(f"training goes on after step {state.step} of {config.steps}")
    if config.track:
        accelerator.init_trackers("intermode", config=asdict(config))
    denoiser = NetworkDenoiser(network, schedule, prediction)
    stable = None
    if isinstance(data, Tensor):
        data = data.to(accelerator.device)
        if config.targets == "posterior":
            stable = ReferenceMean(data, config.reference, labels, none_given)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    mine = slice(rank * config.batch // ranks, (rank + 1) * config.batch // ranks)
    shape = tuple(data.shape[1:] if isinstance(data, Tensor) else data.shape)
    per_point = math.ceil(config.steps / LOSS_POINTS)
    begin = time.perf_counter()
    with progress.task("training", config.steps, state.step, "steps") as task:
        while state.step < config.steps:
            rng = draws(config.seed, "train", state.step)
            if isinstance(data, Tensor):
                rows = torch.from_numpy(rng.integers(0, len(data), config.batch)[mine]).to(accelerator.device)
                x_0 = data[rows]
            else:
                x_0 = data.sample(config.batch, int(rng.integers(2**62)))[mine].to(accelerator.device)
            t = torch.from_numpy(rng.integers(0, len(schedule), config.batch)[mine]).to(accelerator.device)
            noise = rng.standard_normal((config.batch, *shape), dtype=np.float32)[mine]
            eps = torch.from_numpy(noise).to(accelerator.device)
            told = {}
            if labels is not None:
                kept = rng.random(config.batch)[mine] >= config.drop
                classes = labels[rows.cpu()].where(torch.from_numpy(kept), torch.tensor(none_given))
                told = {"class_labels": classes.to(accelerator.device)}
            a, s = schedule.level_like(t, x_0)
            x_t = a * x_0 + s * eps
            with accelerator.autocast():
                output = state.wrapped(x_t, t, **told)
            output = output.sample if hasattr(output, "sample") else output
            mean = None
            if ideal is not None:
                mean = ideal(x_t.to(ideal.dtype), t).to(x_0)
            elif stable is not None:
                mean = stable(rng, x_t, a, s, x_0, told.get("class_labels"))
            if mean is not None:
                x_0, eps = mean, eps + a / s * (x_0 - mean)
            loss = (output.float() - objective(prediction, x_0, eps, a, s)).square().mean()
            state.advance(loss, accelerator)
            if state.step % per_point == 0 or state.step == config.steps:
                loss_point = state.close_loss_point()
                if config.track:
                    accelerator.log({"loss": loss_point, "learning_rate": config.rate(state.step - 1)}, step=state.step)
            done = state.step == config.steps
            # before the checkpoint: a run that is killed between the two watches this step again
            if watch and watch_every and (done or state.step % watch_every == 0):
                begin = state.add_time(begin)
                with state.averaged():
                    watch(state.step, denoiser)
                begin = time.perf_counter()
            if path and accelerator.is_main_process and (done or state.step % config.checkpoint_every == 0):
                begin = state.add_time(begin)
                state.save(path, identity)
            task.advance(1)
    state.add_time(begin)
    if config.track:
        accelerator.end_training()
    state.finish()
    network.eval().requires_grad_(False)
    return Trained(NetworkDenoiser(network, schedule, prediction), np.array(state.losses), state.seconds)


def _none_given(network: nn.Module, data: Tensor, labels: Tensor) -> int:
    """The class K that stands for "none given"."""
    count = int(getattr(network, "description", {}).get("classes", 0))
    if labels.shape != data.shape[:1] or labels.is_floating_point():
        raise InputError(f"labels: {labels.dtype} of shape {tuple(labels.shape)} does not fit {len(data)} samples")
    if count < 1 or labels.min() < 0 or labels.max() >= count:
        raise InputError(
            f"labels: {int(labels.min())}..{int(labels.max())} reach outside the network's {count} classes"
        )
    return count


def _identity(
    network: nn.Module,
    schedule: Schedule,
    data: Tensor | Target,
    config: TrainConfig,
    prediction: Prediction,
    labels: Tensor | None,
    ideal: Denoiser | None = None,
) -> dict[str, str]:
    """What a checkpoint must agree on to be continued. Trackers and checkpoint times may change."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("track", "checkpoint_every")}
    points = data if isinstance(data, Tensor) else data.sample(DRAWS, 0)
    digest = hashlib.sha256(points.detach().cpu().contiguous().numpy().tobytes())
    if labels is not None:
        digest.update(labels.detach().cpu().contiguous().numpy().tobytes())
    described = {
        "network": getattr(network, "description", type(network).__name__),
        "schedule": schedule.config,
        "data": [list(points.shape) if points is data else "drawn anew", digest.hexdigest()],
        "prediction": prediction,
        "ideal": ideal.identity if ideal else None,
        **settings,
    }
    return {k: json.dumps(v, sort_keys=True, default=str) for k, v in described.items()}


class _State:
    """Everything that changes during training: weights, Adam's moments, the average, losses, time."""

    def __init__(self, network: nn.Module, config: TrainConfig, accelerator: Any) -> None:
        self.network, self.config = network, config
        network.train()
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
        self.wrapped, self.optimizer = accelerator.prepare(network, optimizer)
        self.ema: Any = None
        if config.ema:
            from diffusers.training_utils import EMAModel

            self.ema = EMAModel(network.parameters(), decay=config.ema)
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        self._loss_count = 0

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network as it would be returned now: in evaluation mode, with an EMA's weights if there is one."""
        self.network.eval()
        if self.ema:
            self.ema.store(self.network.parameters())
            self.ema.copy_to(self.network.parameters())
        try:
            yield
        finally:
            if self.ema:
                self.ema.restore(self.network.parameters())
            self.network.train()

    def advance(self, loss: Tensor, accelerator: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        self.optimizer.step()
        if self.ema:
            self.ema.step(self.network.parameters())
        self._loss_sum += loss.detach().double()
        self._loss_count += 1
        self.step += 1

    def check_loss(self) -> None:
        """Raise FloatingPointError if the loss was not finite since the last point."""
        if not math.isfinite(float(self._loss_sum)):
            raise FloatingPointError(
                f"the loss is {float(self._loss_sum)} at step {self.step}; lower the learning rate"
            )

    def close_loss_point(self) -> float:
        self.check_loss()
        self.losses.append(float(self._loss_sum) / self._loss_count)
        self._loss_sum.zero_()
        self._loss_count = 0
        return self.losses[-1]

    def add_time(self, begin: float) -> float:
        now = time.perf_counter()
        self.seconds += now - begin
        return now

    def finish(self) -> None:
        if self.ema:
            self.ema.copy_to(self.network.parameters())

    def _raw_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def save(self, path: Path, identity: dict[str, str]) -> None:
        self.check_loss()  # a checkpoint of a failed training would fail again
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for i, moments in self._raw_optimizer().state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in moments.items()}
        if self.ema:
            tensors |= {f"ema.{i}": v for i, v in enumerate(self.ema.shadow_params)}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors["loss_sum"] = self._loss_sum
        numbers = {"step": self.step, "seconds": self.seconds, "loss_count": self._loss_count}
        save_tensors(path, tensors, {**identity, **{f"at.{k}": repr(v) for k, v in numbers.items()}})

    def load(self, path: Path, identity: dict[str, str]) -> None:
        tensors, metadata = load_tensors(path)
        differing = [k for k, v in identity.items() if metadata.get(k) != v]
        if differing:
            k = differing[0]
            raise InputError(
                f"{path}: is the checkpoint of another training "
                f"({k}: {metadata.get(k, 'nothing')[:80]} there, {identity[k][:80]} asked for)"
            )
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "ema": {}}
        for name, value in tensors.items():
            head, _, rest = name.partition(".")
            if head in groups:
                groups[head][rest] = value
        self.network.load_state_dict(groups["network"])
        optimizer = self._raw_optimizer()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        if self.ema:
            shadow = [groups["ema"][str(i)] for i in range(len(groups["ema"]))]
            self.ema.shadow_params = [s.to(p.device) for s, p in zip(shadow, self.ema.shadow_params, strict=True)]
        self.step, self.seconds = int(metadata["at.step"]), float(metadata["at.seconds"])
        if self.ema:
            self.ema.optimization_step = self.step
        self._loss_count = int(metadata["at.loss_count"])
        self.losses = tensors["losses"].tolist()
        self._loss_sum.copy_(tensors["loss_sum"])
