"""A score of images can rank by class and say nothing of quality: what docs/watch.md shows with 64 coloured squares.

The data are dark red and bright green squares on black, one for every place and colour; the model is their ideal
denoiser, sum_i w_i x_i with w_i ~ exp(-|x_t - a x_i|^2 / 2 s^2) over all images x_i. So every image that it makes
is one of the data, none is a hallucination, and whatever ranks them ranks something else.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

import intermode

COLOURS = {"red": (80, 20, 20), "green": (120, 240, 90)}
SIZE, SIDE, COUNT, KEPT = 16, 4, 64, 0.75


def data() -> tuple[Tensor, np.ndarray]:
    """All (338, 3, 16, 16) images, and the (338,) names of their colours."""
    images, names = [], []
    for name, colour in COLOURS.items():
        for row, column in itertools.product(range(SIZE - SIDE + 1), repeat=2):
            image = torch.full((3, SIZE, SIZE), -1.0, dtype=torch.float64)
            image[:, row : row + SIDE, column : column + SIDE] = torch.tensor(colour)[:, None, None] / 127.5 - 1
            images.append(image)
            names.append(name)
    return torch.stack(images), np.array(names)


def sampled(seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """(64,) scores of Hal in its default window, (64,) colours, and how far a pixel is from the nearest image's."""
    known, names = data()
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)
    scheduler.set_timesteps(100)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(COUNT, *known.shape[1:], generator=generator, dtype=torch.float64)
    with intermode.watch(scheduler) as watched:
        for t in scheduler.timesteps:
            alpha_bar = float(scheduler.alphas_cumprod[t])
            a, s = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
            weights = (-(torch.cdist(x.flatten(1), a * known.flatten(1)) ** 2) / (2 * s**2)).softmax(1)
            x0_hat = (weights @ known.flatten(1)).reshape(x.shape)
            x = scheduler.step((x - a * x0_hat) / s, t, x, generator=generator).prev_sample
    nearest = torch.cdist(x.flatten(1), known.flatten(1)).argmin(1)
    return watched.scores["hal"], names[nearest.numpy()], float((x - known[nearest]).abs().max())


def told(scores: np.ndarray, colours: np.ndarray) -> str:
    """What docs/watch.md prints."""

    def counts(chosen: np.ndarray) -> str:
        return ", ".join(f"{int((chosen == colour).sum()):2} {colour}" for colour in COLOURS)

    def dropped(within: np.ndarray | None) -> str:
        rejected = ~intermode.filter(np.arange(COUNT), scores, kept=KEPT, within=within).mask
        parts = [
            f"{int(rejected[colours == c].sum()):2} of {int((colours == c).sum())} {c} "
            f"({100 * rejected[colours == c].mean():.0f} %)"
            for c in COLOURS
        ]
        return ", ".join(parts)

    order, quarter = np.argsort(scores), COUNT // 4
    return "\n".join(
        [
            f"{quarter} lowest scores    {counts(colours[order[:quarter]])}",
            f"{quarter} highest scores   {counts(colours[order[-quarter:]])}",
            f"dropped, kept = {KEPT}                 {dropped(None)}",
            f"dropped, kept = {KEPT} within colours  {dropped(colours)}",
        ]
    )


if __name__ == "__main__":
    scores, colours, off = sampled()
    print(told(scores, colours))
    print(f"no pixel of them is farther than {off:.2g} from an image of the data, on the scale -1..1")
