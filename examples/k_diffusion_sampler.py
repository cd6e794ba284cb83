"""A sampler of k-diffusion, watched by its callback.

    pip install k-diffusion
    python k_diffusion_sampler.py shapes -n 16

The model is a folder of diffusers or one of ours, seen as k-diffusion sees models: called with (x, sigma), where
x = x_0 + sigma noise, it says x_0. A model that is made for k-diffusion already goes into the sampler as it is.
"""

import argparse

import numpy as np
import torch
from k_diffusion import sampling

import intermode
from intermode.integrations.k_diffusion import Callback

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="folder of a pipeline, or the name of a shipped model")
parser.add_argument("-n", type=int, default=16, help="samples")
parser.add_argument("--steps", type=int, default=40)
args = parser.parse_args()

network = intermode.load(args.model)
levels = network.schedule.noise / network.schedule.signal  # sigma of each timestep, rising


def model(x, sigma):
    t = int(np.abs(np.log(levels / float(sigma[0]))).argmin())
    return network(x * network.schedule.signal[t], t)


sigmas = sampling.get_sigmas_karras(args.steps, max(levels[0], 0.01), min(levels[-1], 80.0))
x = torch.randn(args.n, *network.shape, generator=torch.Generator().manual_seed(0)) * sigmas[0]
callback = Callback("hal", sigmas)
x = sampling.sample_euler_ancestral(model, x, sigmas, callback=callback)
callback.finish(x)
print(intermode.filter(x, callback.scores, kept=0.9))
print(f"samples from {x.min():.3g} to {x.max():.3g}; scores:", callback.scores["hal"].round(4))
