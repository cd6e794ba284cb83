"""Scores as a column of a data set of Hugging Face's datasets, and a copy without what is suspect.

python datasets_set.py my-model my-dataset --column image --out my-dataset-kept
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import load_dataset, load_from_disk

import intermode

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="folder of a pipeline, or the name of a shipped model")
parser.add_argument("dataset", help="folder that save_to_disk wrote, or the name of a set on the hub")
parser.add_argument("--split", default="train", help="of a set on the hub")
parser.add_argument("--column", default="image", help="that holds the images")
parser.add_argument("--kept", type=float, default=0.9, help="share to keep, those with the lowest scores")
parser.add_argument("--out", required=True, help="folder for the copy")
args = parser.parse_args()

local = Path(args.dataset).exists()
data = load_from_disk(args.dataset) if local else load_dataset(args.dataset, split=args.split)
model = intermode.load(args.model)
channels, height, width = model.shape


def scored(batch, first):
    pictures = [each.convert("L" if channels == 1 else "RGB").resize((width, height)) for each in batch[args.column]]
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return intermode.score(model, pixels, "lid", seed=first[0])  # a batch at a time: memory stays small


data = data.map(scored, batched=True, batch_size=256, with_indices=True)
scores = np.array(data["lid"])
keep = intermode.Threshold.quantile(scores, args.kept, score="lid").keep(scores)
data.select(np.flatnonzero(keep)).save_to_disk(args.out)
print(keep)
