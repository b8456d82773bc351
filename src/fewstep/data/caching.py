"""The cache of a data set: the one that is given or lies there, checked, or a new one."""

from __future__ import annotations

from pathlib import Path

from fewstep.data.building import EXAMPLES, OnPicture, build_cache, settings_of, source_of
from fewstep.data.cache_folder import Manifest, is_cache, read_cache
from fewstep.data.config import DataConfig
from fewstep.data.example import Source
from fewstep.data.latents import LatentCache
from fewstep.errors import InvalidData
from fewstep.models.latent_model import LatentModel


def cached(
    model: LatentModel, config: DataConfig, folder: Path, on_picture: OnPicture | None = None
) -> tuple[LatentCache, Manifest]:
    """The cache that `config.source` is, or the one in `folder`, built first where it is not there.

    on_picture  called with the number of pictures encoded so far

    Raises `InvalidData` where there are no pictures, and for a cache of other encoders, sizes or pictures.
    """
    given = Path(config.source).expanduser()
    if is_cache(given):
        manifest = Manifest.read(given)
        check_encoders(manifest, model, config, given)
        return read_cache(given, manifest), manifest
    if not is_cache(folder):
        build_cache(model, config, folder, on_picture)
    manifest = Manifest.read(folder)
    check_encoders(manifest, model, config, folder)
    _check_pictures(manifest, source_of(config), config, folder)
    return read_cache(folder, manifest), manifest


def check_encoders(manifest: Manifest, model: LatentModel, config: DataConfig, folder: Path) -> None:
    """Raises `InvalidData` for a cache that other encoders made, or in another size."""
    if manifest.encoders != model.encoders_hash:
        raise InvalidData(
            f"the cache {folder} was made with {manifest.model} ({manifest.encoders}), and {model.name} has another "
            f"autoencoder or text encoder ({model.encoders_hash}): make one with fewstep cache --model {model.name}"
        )
    if config.size is not None and config.size != manifest.size:
        raise InvalidData(
            f"the cache {folder} holds pictures of {manifest.size[0]} x {manifest.size[1]} pixels (height x width), "
            f"and {config.size[0]} x {config.size[1]} are asked for: make another cache, or leave the size out"
        )


def survey(config: DataConfig) -> tuple[int, list[str]]:
    """(how many pictures there seem to be, some captions), without decoding any; raises `InvalidData` for none."""
    given = Path(config.source).expanduser()
    if is_cache(given):
        manifest = Manifest.read(given)
        return manifest.pictures, list(manifest.examples)
    count, captions = 0, list[str]()
    for example in source_of(config):
        if example.problem is not None:
            continue
        count += 1
        if len(captions) < EXAMPLES:
            captions += [caption + config.suffix for caption in example.captions]
    if not count:
        raise InvalidData(f"{config.source} holds no pictures")
    return count, captions


def _check_pictures(manifest: Manifest, source: Source, config: DataConfig, folder: Path) -> None:
    stale = "the pictures or captions there have changed" if manifest.digest != source.digest else None
    if manifest.source != source.where:
        stale = f"it was made of {manifest.source}"
    if dict(manifest.settings) != settings_of(config):
        stale = f"it was made with {dict(manifest.settings)}, and now {settings_of(config)} is asked for"
    if stale:
        raise InvalidData(
            f"the cache {folder} is not of {source.where} as it is now: {stale}. Remove it to make it anew"
        )
