"""Building a cache: pictures and captions to latents and text states, by the frozen parts of a model."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, ImageOps
from torch import Tensor

from fewstep.data.aspects import bucket_sizes, nearest_size
from fewstep.data.cache_folder import PICTURES_PER_SHARD, Manifest, write_shard
from fewstep.data.config import DataConfig
from fewstep.data.example import Example, Source
from fewstep.data.sources import open_source
from fewstep.errors import FewstepWarning, InvalidData, InvalidRequest
from fewstep.files import new_folder
from fewstep.imaging.pixels import to_pixels
from fewstep.imaging.reading import decode_image
from fewstep.models.conditioning import Conditioning
from fewstep.models.latent_model import LatentModel

AT_ONCE = 16  # pictures or captions through an encoder
EXAMPLES = 16  # captions that the manifest keeps
CAPTIONS = 12  # of one picture, repeated where there are fewer: 1, 2, 3, 4 and 6 are then drawn equally often
T = TypeVar("T")
OnPicture = Callable[[int], None]


def build_cache(model: LatentModel, config: DataConfig, folder: Path, on_picture: OnPicture | None = None) -> Manifest:
    """Encode everything into the new folder `folder`; what cannot be used is left out, and named in the manifest.

    Raises `InvalidData` when nothing is left, and `CannotWrite`.
    """
    source, size = source_of(config), config.size or model.traits.default_size
    _check_size(model, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as partial:
        sizes = bucket_sizes(size, _unit(model)) if config.buckets else [size]
        writer = _Writer(model, config, sizes, partial)
        for some in _chunks(writer.usable(source), AT_ONCE):
            writer.encode(some)
            if on_picture is not None:
                on_picture(writer.pictures)
        if not writer.pictures:
            raise InvalidData(f"no picture of {source.where} can be used: {writer.why_skipped()}")
        writer.finish()
        manifest = Manifest(
            model=model.name,
            encoders=model.encoders_hash,
            source=source.where,
            digest=source.digest,
            size=size,
            pictures=writer.pictures,
            captions=len(writer.texts),
            settings=settings_of(config),
            examples=[text for text in writer.texts if text][:EXAMPLES],
            skipped=writer.skipped,
            shapes={f"{height}x{width}": count for (height, width), count in sorted(writer.counts.items())},
        )
        manifest.write(partial)
    return manifest


def source_of(config: DataConfig) -> Source:
    return open_source(config.source, image_column=config.image_column, caption_column=config.caption_column)


def settings_of(config: DataConfig) -> dict[str, object]:
    settings: dict[str, object] = {"flip": config.flip, "suffix": config.suffix, "min_side": config.min_side}
    return settings | ({"buckets": True} if config.buckets else {})


def _unit(model: LatentModel) -> int:
    """Pixels that every side must be a multiple of."""
    return model.traits.multiple


def _check_size(model: LatentModel, size: tuple[int, int]) -> None:
    unit = _unit(model)
    if any(side % unit for side in size):
        raise InvalidData(f"the size is {size[0]} x {size[1]}; for {model.name} both must be multiples of {unit}")


@dataclass(frozen=True, eq=False)
class _Row:
    """A picture of the cache."""

    latent: Tensor
    captions: list[int]
    sizes: tuple[int, ...] | None


@dataclass(eq=False)
class _Writer:
    """The cache in the making: a shard holds pictures of one of the sizes."""

    model: LatentModel
    config: DataConfig
    sizes: list[tuple[int, int]]
    folder: Path
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    texts: dict[str, int] = field(default_factory=lambda: {"": 0})
    skipped: dict[str, list[str]] = field(default_factory=dict)
    waiting: dict[tuple[int, int], list[_Row]] = field(default_factory=dict)
    shards: int = 0

    @property
    def pictures(self) -> int:
        return self.counts.total()

    def usable(self, source: Source) -> Iterator[tuple[Image.Image, Example]]:
        for example in source:
            try:
                image = _decoded(example)
            except InvalidRequest as error:
                self._skip(str(error).replace(example.name, "it"), example)
                continue
            if min(image.size) < self.config.min_side:
                self._skip(f"a side is shorter than {self.config.min_side} pixels", example)
                continue
            yield image, example

    def encode(self, some: tuple[tuple[Image.Image, Example], ...]) -> None:
        views = [(image, example) for image, example in some]
        if self.config.flip:
            views += [(ImageOps.mirror(image), example) for image, example in some]
        by_size: dict[tuple[int, int], list[tuple[Image.Image, Example]]] = {}
        for view in views:
            by_size.setdefault(nearest_size(view[0].size, self.sizes), []).append(view)
        for size, of_size in by_size.items():
            self._encode(of_size, *size)

    def _encode(self, views: list[tuple[Image.Image, Example]], height: int, width: int) -> None:
        pixels = torch.cat([to_pixels(image, height, width) for image, _ in views])
        latents = self.model.encode_images(pixels).cpu()
        rows = self.waiting.setdefault((height, width), [])
        for (image, example), latent in zip(views, latents, strict=True):
            if not latent.isfinite().all():
                self._skip("the autoencoder gives no finite latents for it", example)
                continue
            captions = [self._row(caption) for caption in example.captions]
            rows.append(_Row(latent.half(), captions, self._sizes(image, height, width)))
            self.counts[height, width] += 1
            if len(rows) == PICTURES_PER_SHARD:
                self._flush(rows)

    def finish(self) -> None:
        for rows in self.waiting.values():
            self._flush(rows)
        for index, some in enumerate(_chunks(self.texts, PICTURES_PER_SHARD // 4)):
            write_shard(self.folder, "texts", index, self._states(some))

    def why_skipped(self) -> str:
        return "; ".join(f"{len(names)} x {reason} ({names[0]}, …)" for reason, names in self.skipped.items()) or "none"

    def _row(self, caption: str) -> int:
        return self.texts.setdefault(caption + self.config.suffix, len(self.texts))

    def _skip(self, reason: str, example: Example) -> None:
        self.skipped.setdefault(reason, []).append(example.name)

    def _flush(self, rows: list[_Row]) -> None:
        if not rows:
            return
        tensors: dict[str, Tensor | None] = {
            "latents": torch.stack([row.latent for row in rows]),
            "captions": torch.tensor([_repeated(row.captions, CAPTIONS) for row in rows]),
        }
        if (name := self.model.traits.sizes) is not None:
            tensors[name] = torch.tensor([row.sizes for row in rows])
        write_shard(self.folder, "latents", self.shards, tensors)
        self.shards += 1
        rows.clear()

    def _states(self, texts: tuple[str, ...]) -> dict[str, Tensor | None]:
        conds: list[Conditioning] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FewstepWarning)
            for some in _chunks(texts, AT_ONCE):
                empty = [self.model.encode_negative("")] if some[0] == "" else []
                rest = some[len(empty) :]
                read = [*empty, *([self.model.encode_text(rest)] if rest else [])]
                conds += [cond.to("cpu", torch.half) for cond in read]
        if caught:
            warnings.warn(
                f"{len(caught)} captions are longer than {self.model.name} reads, and end early; the first: "
                f"{caught[0].message}",
                FewstepWarning,
                stacklevel=5,
            )
        everything = Conditioning.cat(conds)
        pooled = everything.pooled if self.model.traits.reads_pooled else None
        return {"states": everything.states, "pooled": pooled, "mask": everything.mask}

    def _sizes(self, image: Image.Image, height: int, width: int) -> tuple[int, ...] | None:
        """What the network reads of the picture's own size, of where the crop begins after scaling, and of its size."""
        scale = max(height / image.height, width / image.width)
        top, left = ((side * scale - crop) / 2 for side, crop in ((image.height, height), (image.width, width)))
        corner = max(math.floor(top), 0), max(math.floor(left), 0)
        return self.model.sizes((image.height, image.width), corner, (height, width))


def _chunks(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    rest = iter(items)
    while some := tuple(islice(rest, size)):
        yield some


def _repeated(rows: list[int], length: int) -> list[int]:
    """A picture's captions, again from the first until they are `length`."""
    return [rows[i % len(rows)] for i in range(length)]


def _decoded(example: Example) -> Image.Image:
    """The picture, upright; raises `InvalidRequest`, naming it."""
    if example.problem is not None:
        raise InvalidRequest(example.problem)
    if isinstance(example.picture, Path):
        try:
            size = example.picture.stat().st_size
        except OSError as error:
            raise InvalidRequest(f"{example.name} cannot be read: {error.strerror}") from error
        if not size:
            raise InvalidRequest(f"{example.name} is empty (0 bytes)")
        return decode_image(example.picture, example.name)
    if not example.picture:
        raise InvalidRequest(f"{example.name} is empty (0 bytes)")
    return decode_image(io.BytesIO(example.picture), example.name)
