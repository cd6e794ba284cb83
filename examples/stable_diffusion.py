"""Several images of a prompt from a text-to-image pipeline, each with a score, in the order of suspicion.

    python stable_diffusion.py my-text-to-image-model "a hand on a table" -n 8 --out hands

Compare scores of one prompt only: between prompts they tell how much there is in the image.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

import intermode

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="folder, or name on the hub: Stable Diffusion 1, 2, XL, 3 and the like")
parser.add_argument("prompt")
parser.add_argument("-n", type=int, default=8, help="images")
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("images"), help="folder for them")
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
dtype = torch.float16 if device == "cuda" else torch.float32
pipe = DiffusionPipeline.from_pretrained(args.model).to(device, dtype)
args.out.mkdir(parents=True, exist_ok=True)
made = []
with intermode.watch(pipe) as watched:  # four at a time; the rows of scores go on
    for first in range(0, args.n, 4):
        generator = torch.Generator(device).manual_seed(args.seed + first)
        call = {"num_images_per_prompt": min(4, args.n - first), "num_inference_steps": args.steps}
        made += pipe(args.prompt, generator=generator, **call).images

for rank, k in enumerate(watched.scores["hal"].argsort()):
    made[k].save(args.out / f"{rank:03}.png")
    print(f"{watched.scores['hal'][k]:10.4g}  {args.out}/{rank:03}.png")
