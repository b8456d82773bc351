"""What the trunk takes along to a GPU machine that reaches no registry: its art, as small as it travels."""

from __future__ import annotations

import shutil
from pathlib import Path

from recipes.emoji import art
from recipes.emoji.drawings import STYLES
from recipes.emoji.packages import unpacked

TOO_LARGE = ("fluent-emoji",)  # 14 of 24 MB


def pack_art(source: Path, target: Path) -> int:
    """Into `target / "packages"`: the archives of all other styles, and the labels in English; returns the bytes.

    source  where the packages are, or are fetched to
    """
    shutil.rmtree(target / "packages", ignore_errors=True)
    (target / "packages").mkdir(parents=True)
    for style, package in STYLES.items():
        if style not in TOO_LARGE:
            unpacked(package, source)
            shutil.copyfile(source / package.tarball, target / "packages" / package.tarball)
    labels = unpacked(art.LABELS, source)
    shutil.copytree(labels / "en", target / "packages" / labels.name / "en")
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def left_behind(folder: Path) -> list[str]:
    """The styles that `pack_art` left out of `folder`; none where the packages can be fetched."""
    packages = folder / "packages"
    return [style for style in TOO_LARGE if packages.is_dir() and not (packages / STYLES[style].tarball).is_file()]
