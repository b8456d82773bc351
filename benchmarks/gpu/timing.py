"""Times of rivals, taken in turns, so that what the machine does in between befalls them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], object]


def wait(device: str) -> None:
    """Until the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(call: Call, device: str) -> float:
    """Of one call, from an idle device to an idle device: what a person waits for."""
    wait(device)
    started = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - started


def in_turns(calls: Mapping[str, Call], device: str, *, rounds: int, seconds: float, warm: int = 2) -> dict[str, Any]:
    """Times of each call, in ms: the median, the quartiles, how many, and the most memory (MiB) that it took.

    rounds, seconds  turns of all calls, after `warm` each: `rounds`; where they take longer than `seconds` fewer, but 3
    Where there are several, `ratios` holds those of each to the first, turn by turn: above 1, the first is quicker.
    """
    memory = {name: _peak(call, device) for name, call in calls.items()}  # the first turn, which warms up as well
    for _ in range(warm - 1):
        for call in calls.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + seconds
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() > until:
            break
        for name, call in calls.items():
            taken[name].append(seconds_of(call, device))
    result: dict[str, Any] = {name: {"ms": spread([1e3 * each for each in times])} for name, times in taken.items()}
    for name, mib in memory.items():
        if mib is not None:
            result[name]["peak_mib"] = mib
    first, *others = taken
    if others:
        result["ratios"] = {
            name: spread([b / a for a, b in zip(taken[first], taken[name], strict=True)]) for name in others
        }
    return result


def kernel_seconds(call: Call, device: str, *, repeats: int, rounds: int = 5) -> float:
    """Of one call among `repeats` that follow each other, as the device itself measures it: the median of `rounds`."""
    for _ in range(2):
        call()
    return statistics.median(_back_to_back(call, device, repeats) for _ in range(rounds))


def _back_to_back(call: Call, device: str, repeats: int) -> float:
    if device != "cuda":
        return seconds_of(lambda: [call() for _ in range(repeats)], device) / repeats
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles; of fewer than four values, the least and the largest."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) >= 4 else (min(values), 0, max(values))
    return {
        "median": round(statistics.median(values), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "count": len(values),
    }


def operations(call: Call) -> int:
    """Floating-point operations of one call, two for a product and its sum; on a CPU without those of attention."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _peak(call: Call, device: str) -> int | None:
    if device != "cuda":
        call()
        return None
    wait(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    wait(device)
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)
