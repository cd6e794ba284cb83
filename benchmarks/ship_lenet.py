"""Train the LeNet that the package ships as feature extractor on MNIST: ``make lenet``, a few minutes on one core."""

from __future__ import annotations

import time
from dataclasses import asdict

import torch

from intermode.classifier import SHIPPED, ClassifierConfig, accuracy, fit, save_classifier
from intermode.progress import Bars
from intermode.provenance import provenance
from intermode.targets.digits import load
from intermode.targets.fetch import DATASETS, cache_folder, fetch


def main() -> None:
    torch.set_num_threads(1)  # the weights belong to the seed with one thread
    folder = cache_folder("mnist")
    fetch(DATASETS["mnist"], folder)
    train, test = load(folder, "train"), load(folder, "test")
    config = ClassifierConfig()
    begin = time.perf_counter()
    network = fit(train, config, progress=Bars())
    seconds = time.perf_counter() - begin
    right = accuracy(network, test)
    record = {
        **provenance("cpu", 1),
        "target": "mnist",
        "training": asdict(config),
        "training_samples": len(train),
        "train_s": round(seconds, 1),
        "test_samples": len(test),
        "test_accuracy": asdict(right),
    }
    save_classifier(SHIPPED, network, record)
    size = sum(file.stat().st_size for file in SHIPPED.iterdir())
    print(f"{SHIPPED.name}: test accuracy {right}, {seconds:.0f} s, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
