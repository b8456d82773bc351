"""Processes of one distributed run, forked from one that has imported already what they need."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTED = ("fewstep.cli.main", "fewstep.train.run", "accelerate", "diffusers", "peft", "torch.distributed.fsdp")


def run_in_two(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """`fewstep` with these arguments, in `folder`, by two processes that find each other as a launcher's do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        context.Process(
            target=_rank,
            args=(arguments, folder, {**environment, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)}),
            daemon=True,
        )
        for rank in (0, 1)
    ]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(600)
    said = "".join(file.read_text() for file in sorted(folder.glob("rank-*.txt")))
    assert [each.exitcode for each in ranks] == [0, 0], said


def _rank(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """What it says lies in `folder`/rank-N.txt."""
    os.chdir(folder)
    os.environ.update(environment)
    said = os.open(f"rank-{environment['RANK']}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    import torch

    from fewstep.cli.main import main

    torch.set_num_threads(1)
    raise SystemExit(main([*arguments]))
