"""Where samples go that a user asked for, and how an interrupted run finds them again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from intermode.early_stop import EarlyStopped
from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.repairs import Repaired
from intermode.resample import KeptSamples
from intermode.sampling import Samples, samples_of

__all__ = ["Place", "save_samples"]


def save_samples(path: Path, samples: Samples) -> None:
    """Write samples with all that is known of them as safetensors."""
    tensors = {"samples": samples.x, "diverged": torch.from_numpy(samples.diverged)}
    tensors |= {f"score.{name}": torch.from_numpy(values) for name, values in samples.scores.items()}
    tensors |= {f"condition.{name}": value for name, value in samples.condition.items()}
    facts = {"seconds": repr(samples.seconds)}
    if isinstance(samples, KeptSamples):
        tensors["index"], facts["drawn"] = torch.from_numpy(samples.index), str(samples.drawn)
    if isinstance(samples, Repaired | EarlyStopped):
        tensors, facts = tensors | samples.tensors, facts | samples.facts
    save_tensors(path, tensors, facts)


class Place:
    """The folder that a user gave for samples: ``samples.safetensors``, a record of what they are, and their jobs
    while they are drawn. None is a folder of its own that goes in the end."""

    def __init__(self, folder: str | Path | None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="intermode-") if folder is None else None
        self.folder = Path(folder if self._temporary is None else self._temporary.name)  # type: ignore[arg-type] # one of them
        self.jobs = self.folder / ".jobs"
        self._file, self._record = self.folder / "samples.safetensors", self.folder / "sampling.json"

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def take(self, asked: Mapping[str, Any]) -> None:
        """Take the folder for these samples.

        Raises:
            InputError: it holds other things, or other samples.
        """
        wanted = json.loads(json.dumps(asked))  # as it will be read back
        if self._record.exists():
            found = read_json(self._record)
            if differing := [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]:
                listed = ", ".join(f"({k}: {found.get(k)} there, {wanted.get(k)} asked for)" for k in differing)
                raise InputError(f"out: {self.folder} holds other samples {listed}; choose another folder")
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise InputError(f"out: {self.folder} is not an empty folder; choose another")
        write_json(self._record, wanted)

    def finished(self) -> Samples | None:
        """What an earlier run has drawn; a damaged file is drawn again."""
        try:
            tensors, facts = load_tensors(self._file)
        except InputError:
            return None
        own = {name.removeprefix("condition."): v for name, v in tensors.items() if name.startswith("condition.")}
        tensors["seconds"] = torch.tensor(float(facts["seconds"]), dtype=torch.float64)
        found = samples_of(tensors, own)
        if "tries" in tensors:
            return EarlyStopped.of(found, tensors, facts)
        if "touched" in tensors:
            return Repaired.of(found, tensors, facts)
        return KeptSamples.of(found, tensors["index"].numpy(), int(facts["drawn"])) if "index" in tensors else found

    def keep(self, samples: Samples) -> Samples:
        """Write the samples into the folder, in place of the jobs that made them."""
        save_samples(self._file, samples)
        shutil.rmtree(self.jobs, ignore_errors=True)
        return samples
