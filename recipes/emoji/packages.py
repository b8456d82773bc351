"""Pinned npm packages, fetched once with `npm pack` and checked against their SHA-256 before anything reads them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """A package at one version; `sha256` is that of the tarball."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def tarball(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def unpacked(package: NpmPackage, folder: Path) -> Path:
    """The folder that holds the package's files, fetched into `folder` if it is not there yet."""
    target = folder / package.tarball.removesuffix(".tgz")
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / package.tarball
    if not archive.is_file():
        _pack(package, folder)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        archive.unlink()
        raise ValueError(
            f"{package.tarball} has SHA-256 {digest}, expected {package.sha256}; it was deleted: run again"
        )
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    (partial / "package").rename(target)
    partial.rmdir()
    return target


def _pack(package: NpmPackage, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("the starter's art comes from npm packages: install Node.js (npm), then run again")
    spec = f"{package.name}@{package.version}"
    done = subprocess.run([npm, "pack", "--silent", spec], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ConnectionError(f"`npm pack {spec}` failed: {done.stderr.strip()[-400:]}")
