"""Functions of jobs, in a module that worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch

from intermode.errors import InputError
from intermode.jobs import Running


def number(running: Running) -> dict[str, Any]:
    """The number of its config, and a tensor of so many."""
    with (running.folder / "visits").open("a") as file:
        file.write("x")
    running.save({"x": torch.full((3,), float(running.config["value"]))})
    return {"value": running.config["value"], "threads": torch.get_num_threads()}


def total(running: Running) -> dict[str, Any]:
    """The sum over its inputs."""
    tensors = [done.tensors()["x"] for done in running.inputs.values()]
    running.save({"x": torch.stack(tensors).sum(0)})
    return {"value": sum(done.facts["value"] for done in running.inputs.values())}


def refuse(running: Running) -> dict[str, Any]:
    """Input that cannot be used."""
    raise InputError("value: is no number")


def stumble(running: Running) -> dict[str, Any]:
    """A mistake of the programmer."""
    raise KeyError("lost")


def die(running: Running) -> dict[str, Any]:
    """As the system ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def die_once(running: Running) -> dict[str, Any]:
    """Dies at the first attempt."""
    mark = running.folder / "tried"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number(running)


def slow(running: Running) -> dict[str, Any]:
    """Counts to a number, a tenth of a second each, remembering where it was."""
    file = running.folder / "reached"
    reached = int(file.read_text()) if file.exists() else 0
    with running.progress.task("counting", running.config["value"], reached, "numbers") as task:
        while reached < running.config["value"]:
            time.sleep(0.1)
            reached += 1
            file.write_text(str(reached))
            task.advance(1)
    return {"value": reached}


def patient(running: Running) -> dict[str, Any]:
    """A number that takes its time, and notes the nodes that it was tried on."""
    import ray

    with (running.folder / "node").open("a") as file:
        file.write(ray.get_runtime_context().get_node_id() + "\n" if ray.is_initialized() else "here\n")
    for k in range(running.config["tenths"] if ray.is_initialized() else 0):
        (running.folder / "reached").write_text(str(k))
        time.sleep(0.1)
    return number(running)
