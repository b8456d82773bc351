"""Weights in few bits, as a package can carry them: a safetensors file that other programs do not open.

A packed tensor is cut into groups of 64 numbers that share a step; a number is (code - (2^bits - 1) / 2) * step. Its
codes lie in planes of 8, 4, 2 or 1 bits, so that unpacking is a few shifts. A file may hold the *difference* to another
file's tensors: it names that file and its SHA-256, and reading refuses any other. Small tensors stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fewstep.errors import InvalidModel
from fewstep.files import write_tensors

GROUP = 64
PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 8: (8,)}  # bits of each plane, the lowest first
SMALLEST = 1024  # numbers in a tensor that is worth packing
_TENSORS, _BASE = "packed", "packed_base"
_STEPS = torch.linspace(0.25, 1.05, 33)  # of the step that just reaches the largest number: the best one is taken


@dataclass(frozen=True, slots=True)
class _Packed:
    """How a tensor lies in the file; `difference`: to the base's tensor of the same name."""

    bits: int
    shape: tuple[int, ...]
    difference: bool


def quantize(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes uint8 (G, 64) and steps float16 (G,) of the numbers of `x`, filled up with zeros to whole groups.

    Of several steps a group takes the one of least squared error.
    """
    flat = x.float().flatten()
    groups = torch.nn.functional.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)
    largest = groups.abs().amax(1)
    best, least = torch.zeros_like(largest), torch.full_like(largest, torch.inf)
    for share in _STEPS.tolist():
        steps = (share * largest * 2 / (2**bits - 1)).half().float()
        error = (_values(_codes(groups, steps, bits), steps, bits) - groups).square().sum(1)
        best, least = torch.where(error < least, steps, best), torch.minimum(error, least)
    return _codes(groups, best, bits), best.half()


def _codes(groups: Tensor, steps: Tensor, bits: int) -> Tensor:
    scaled = groups / steps.clamp(min=torch.finfo(torch.float16).smallest_normal).unsqueeze(1)
    return (scaled + (2**bits - 1) / 2).round().clamp(0, 2**bits - 1).to(torch.uint8)


def _values(codes: Tensor, steps: Tensor, bits: int) -> Tensor:
    return (codes.float() - (2**bits - 1) / 2) * steps.float().unsqueeze(1)


def _planes(codes: Tensor, bits: int) -> Tensor:
    """Codes (G, 64) to bytes, plane after plane; `_from_planes` undoes it."""
    parts, low = [], 0
    for width in PLANES[bits]:
        places = ((codes.flatten() >> low) & (2**width - 1)).view(8 // width, -1)
        shifts = torch.arange(0, 8, width, dtype=torch.uint8).unsqueeze(1)
        parts.append((places << shifts).sum(0, dtype=torch.uint8))
        low += width
    return torch.cat(parts)


def _from_planes(data: Tensor, bits: int, groups: int) -> Tensor:
    codes, low, start = torch.zeros(groups * GROUP, dtype=torch.uint8), 0, 0
    for width in PLANES[bits]:
        end = start + groups * GROUP * width // 8
        shifts = torch.arange(0, 8, width, dtype=torch.uint8).unsqueeze(1)
        codes |= ((data[start:end] >> shifts) & (2**width - 1)).flatten() << low
        low, start = low + width, end
    return codes.view(groups, GROUP)


def pack(
    tensors: Mapping[str, Tensor],
    path: Path,
    bits: int | Callable[[str], int],
    metadata: Mapping[str, str] | None = None,
    base: Path | None = None,
) -> None:
    """Write `tensors` to `path`, those of two dimensions and `SMALLEST` numbers or more in `bits`, others as float16.

    bits  2, 3, 4, 5, 6 or 8; or what gives them by the tensor's name
    base  a packed file: what lies there under the same name and in the same shape is subtracted
    """
    below = {} if base is None else read(base)[0]
    stored: dict[str, Tensor] = {}
    packed: dict[str, _Packed] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or tensor.numel() < SMALLEST:
            stored[name] = tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()
            continue
        width = bits if isinstance(bits, int) else bits(name)
        differs = name in below and below[name].shape == tensor.shape
        codes, steps = quantize(tensor.float() - below[name].float() if differs else tensor, width)
        stored |= {f"{name}|codes": _planes(codes, width), f"{name}|steps": steps}
        packed[name] = _Packed(width, tuple(tensor.shape), differs)
    facts = {_TENSORS: json.dumps({name: asdict(each) for name, each in packed.items()})}
    if base is not None:
        relative = Path(os.path.relpath(base, path.parent)).as_posix()
        facts[_BASE] = json.dumps({"file": relative, "sha256": _sha256(base, base.stat().st_mtime_ns)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, stored, {**(metadata or {}), **facts})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file, packed or not; what was packed comes as float16.

    Raises `InvalidModel` where the file is none, or where its base is missing or another than it was made for.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be read as safetensors: {error}") from error
    if _TENSORS not in metadata:
        return stored, metadata
    base = base_of(path, metadata)
    below = {} if base is None else read(base)[0]
    try:
        for name, facts in json.loads(metadata.pop(_TENSORS)).items():
            stored[name] = _unpacked(stored, name, _Packed(**facts), below)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidModel(f"{path} is damaged: its packed weights cannot be read ({error})") from error
    metadata.pop(_BASE, None)
    return stored, metadata


def shapes_in(stored: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Mapping[str, tuple[int, ...]]:
    """The shapes of a file's tensors as they are read, from those that are stored; a file that is not packed: the same.

    Raises `InvalidModel` for a file that is damaged.
    """
    if _TENSORS not in metadata:
        return stored
    try:
        packed = {name: tuple(facts["shape"]) for name, facts in json.loads(metadata[_TENSORS]).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidModel(f"the file is damaged: its packed weights cannot be read ({error})") from error
    return {name: shape for name, shape in stored.items() if name.partition("|")[0] not in packed} | packed


def _unpacked(stored: dict[str, Tensor], name: str, facts: _Packed, below: Mapping[str, Tensor]) -> Tensor:
    steps = stored.pop(f"{name}|steps")
    codes = _from_planes(stored.pop(f"{name}|codes"), facts.bits, len(steps))
    size = torch.Size(facts.shape)
    values = _values(codes, steps, facts.bits).flatten()[: size.numel()].view(size)
    return (values + below[name].float() if facts.difference else values).half()


def base_of(path: Path, metadata: Mapping[str, str] | None = None) -> Path | None:
    """The file that the packed file `path` is the difference to, or None; raises `InvalidModel` for another one."""
    if metadata is None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    if _BASE not in metadata:
        return None
    named = json.loads(metadata[_BASE])
    base: Path = path.parent / named["file"]
    if not base.is_file():
        raise InvalidModel(f"{path} holds the difference to {base}, which is missing: reinstall fewstep")
    if (digest := _sha256(base, base.stat().st_mtime_ns)) != named["sha256"]:
        raise InvalidModel(
            f"{path} holds the difference to other weights than {base}: it names SHA-256 {named['sha256'][:12]}, and "
            f"the file has {digest[:12]}. Teacher, student and adapters are replaced together: reinstall fewstep"
        )
    return base


@cache
def _sha256(path: Path, changed: int) -> str:
    """`changed`: when the file was, so that one that is written anew is read anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
