"""The project's speed figures as ratios from one run: ``make bench``.

Timing on shared machines is noisy: each figure is a ratio of two measurements taken alternately in this process,
the median over repeats, with one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from rich.console import Console
from rich.table import Table
from torch import Tensor

from intermode.denoisers import MixtureDenoiser, NetworkDenoiser, TabulatedDenoiser
from intermode.detect.hal import Hal
from intermode.exact import off_support
from intermode.integrations.watching import watch
from intermode.networks.mlp import ResidualMLP, sinusoidal
from intermode.networks.unet import PatchUNet2DModel
from intermode.samplers import Ancestral
from intermode.sampling import Plan, generate, sample
from intermode.schedules import linear
from intermode.targets.gaussian import line

REPEATS = 5


def seconds(*works: Callable[[], object]) -> list[float]:
    """Median time of each work, measured in turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for work, taken in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in times]


def embedding_per_sample(network: ResidualMLP, x: Tensor, t: int) -> Tensor:
    """A pass over the whole batch in one piece with an embedding for every sample."""
    time_embedding = network.embed(sinusoidal(torch.full((len(x),), t), network.width))
    h = network.input(x)
    for block in network.blocks:
        h = block(h, time_embedding, None)
    return network.output(h)


@torch.no_grad()
def chunked_network() -> tuple[str, str, float, str]:
    network = ResidualMLP(1).eval()
    denoiser = NetworkDenoiser(network, linear())
    x = torch.randn(100_000, 1)
    whole, chunked = seconds(
        lambda: embedding_per_sample(network, x, 500),
        lambda: [denoiser(part, 500) for part in x.split(8192)],
    )
    return (
        "network step, 100,000 samples",
        "whole batch, embedding per sample / chunks of 8,192",
        whole / chunked,
        ">= 2",
    )


@torch.no_grad()
def tabulated() -> tuple[str, str, float, str]:
    denoiser = NetworkDenoiser(ResidualMLP(1).eval(), linear())
    samples, shown, steps = 1_000_000, 16384, 20
    x = torch.randn(shown, 1)
    table = TabulatedDenoiser(denoiser, -7, 7)
    table(x, 0)
    build, network, look_up = seconds(
        lambda: TabulatedDenoiser(denoiser, -7, 7).prepare(range(steps)),
        lambda: [denoiser(part, t) for t in range(steps) for part in x.split(8192)],
        lambda: [table(x, 0) for _ in range(steps)],
    )
    chunks = samples / shown
    return (
        "x0_hat of 1,000,000 samples, one timestep",
        "network / table, tables included",
        network * chunks / (build + look_up * chunks),
        ">= 50",
    )


def hal_overhead() -> tuple[str, str, float, str]:
    denoiser = NetworkDenoiser(ResidualMLP(1).eval(), linear())
    plan = Plan(10_000, (1,), chunk=10_000)
    sampler = Ancestral(steps=200)
    detectors = [Hal(0, 15)]
    denoiser_only, with_hal = seconds(
        lambda: generate(denoiser, sampler, plan), lambda: generate(denoiser, sampler, plan, detectors)
    )
    return "sampling 10,000 samples in 200 steps", "with Hal / without", with_hal / denoiser_only, "<= 1.03"


def watch_overhead() -> tuple[str, str, float, str]:
    network = UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )
    pipe = DDIMPipeline(network.eval(), DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)

    def sample() -> object:
        return pipe(batch_size=4, num_inference_steps=20, output_type="np")

    def watched() -> object:
        with watch(pipe):
            return sample()

    pipe_only, with_watch = seconds(sample, watched)
    return "U-Net pipeline, 4 images of 3×32×32 in 20 steps", "with watch / without", with_watch / pipe_only, "<= 1.03"


def two_workers() -> tuple[str, str, float, str]:
    """Starting the workers included; needs two idle cores."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = PatchUNet2DModel(sample_size=64, in_channels=1, patch=4, channels=(64, 64, 128)).eval()
    denoiser = NetworkDenoiser(network, linear())

    def taken(workers: int) -> float:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            sample(denoiser, 160, sampler=Ancestral(steps=50), chunk=4, out=f"{folder}/out", workers=workers)
        return time.perf_counter() - begin

    ratios = [taken(1) / taken(2) for _ in range(3)]
    return "sampling 160 images of 64 by 64 by a U-Net", "one worker / two", statistics.median(ratios), ">= 1.6"


def exact_time() -> tuple[str, str, float, str]:
    mixture, schedule = line((1, 2, 3)), linear()
    begin = time.perf_counter()
    off_support(NetworkDenoiser(ResidualMLP(1).eval(), schedule), mixture)
    network = time.perf_counter() - begin
    begin = time.perf_counter()
    off_support(MixtureDenoiser(mixture, schedule), mixture)
    return (
        "exact density, T = 1000, two grids",
        f"seconds (closed form: {time.perf_counter() - begin:.1f})",
        network,
        "<= 20",
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = Table("what", "ratio", "measured", "aim")
    for measure in (tabulated, chunked_network, hal_overhead, watch_overhead, two_workers, exact_time):
        what, ratio, value, aim = measure()
        table.add_row(what, ratio, f"{value:.3g}", aim)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
