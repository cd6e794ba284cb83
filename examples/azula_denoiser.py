"""A denoiser of azula, trained here on two half moons, with the samplers and detectors of intermode.

pip install azula
python azula_denoiser.py
"""

import argparse

import torch
from azula.denoise import KarrasDenoiser
from azula.noise import VPSchedule
from sklearn.datasets import make_moons

import intermode
from intermode.integrations.azula import AzulaDenoiser

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=2000, help="of the training")
args = parser.parse_args()
torch.manual_seed(0)


class Backbone(torch.nn.Sequential):
    def forward(self, x, t):
        return super().forward(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


layers = torch.nn.Linear(3, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128), torch.nn.SiLU(), torch.nn.Linear(128, 2)
denoiser = KarrasDenoiser(Backbone(*layers), VPSchedule())
optimizer = torch.optim.Adam(denoiser.parameters(), 1e-3)
moons = torch.tensor(make_moons(5000, noise=0.03, random_state=0)[0], dtype=torch.float32)
for _ in range(args.steps):
    optimizer.zero_grad()
    denoiser.loss(moons[torch.randint(5000, (256,))], torch.rand(256)).mean().backward()
    optimizer.step()

samples = intermode.sample(AzulaDenoiser(denoiser, shape=(2,)), 1000, sampler=intermode.DDIM(steps=200))
far, kept = torch.cdist(samples.x, moons).amin(1).numpy(), samples.keep(0.9)
print(kept)
print(f"from the nearest moon on average: {far[kept].mean():.3f} of what is kept, {far[~kept].mean():.3f} of the rest")
