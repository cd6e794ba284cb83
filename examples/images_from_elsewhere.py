"""Which images of a folder does a model distrust? They may come from anywhere and have any size.

    python images_from_elsewhere.py my-model my-images

The model is a folder of a pipeline of diffusers with a U-Net, or one of intermode's. Images are cropped to its size.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import intermode

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="folder of a pipeline, or the name of a shipped model")
parser.add_argument("images", type=Path, help="folder of images")
parser.add_argument("--kept", type=float, default=0.9, help="share to keep, those with the lowest scores")
args = parser.parse_args()

model = intermode.load(args.model)
channels, height, width = model.shape
files = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in Image.registered_extensions())
pictures = [ImageOps.fit(Image.open(file).convert("L" if channels == 1 else "RGB"), (width, height)) for file in files]
pixels = np.stack([np.asarray(picture) for picture in pictures])

scores = intermode.score(model, pixels, "lid", progress=True)
print(intermode.filter(pixels, scores, kept=args.kept))
print(f"{intermode.explore(pixels, scores=scores)} shows them all; the most suspect:")
for k in np.argsort(-scores["lid"])[:10]:
    print(f"{scores['lid'][k]:10.4g}  {files[k]}")
