"""Textual inversion (2208.01618): words of one's own, whose vectors come from a file and not from the vocabulary.

In a prompt the word stands for all its vectors. They enter beside the vocabulary's, under negative ids, so that nothing
that looks for the largest id, as CLIP does for the end of a prompt, takes one of them for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from fewstep.errors import InvalidModel, InvalidRequest, ModelNotFound
from fewstep.models.adapters.host import Host
from fewstep.models.families.unets import named
from fewstep.models.identify import identify, refusal
from fewstep.models.rebuilt import rebuilt
from fewstep.models.stated import GENERIC
from fewstep.models.tensor_file import read_tensors
from fewstep.models.text.own_words import Embedding, Embeddings

Model = TypeVar("Model", bound=Host)
DIFFUSERS_NAME = "learned_embeds.safetensors"
_HUB = re.compile(r"[\w.-]+/[\w.-]+(?<!\.safetensors)")
_ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}  # as files for SDXL name them
EmbeddingSource = str | Path | tuple[str | Path, str]


def read_embedding(path: Path, word: str | None = None, reference: str | None = None) -> Embedding:
    """A `.safetensors` file, or a folder with one; raises `InvalidModel`.

    word  what prompts call it; default: the file's own word, where it holds one, else the file's name
    """
    file = _file_in(path)
    tensors, _ = read_tensors(file)
    found = identify(file)
    if found.thing != "embedding":
        raise refusal(file, "embedding", found)
    own, vectors = _vectors(tensors)
    if not vectors or len({len(each) for each in vectors.values()}) != 1:
        raise InvalidModel(f"{file} is no embedding that fewstep knows: it holds {', '.join(sorted(tensors))}")
    name = file.absolute().parent.name if GENERIC.fullmatch(file.stem) else file.stem
    chosen = own or name if word is None else word
    if not chosen.strip():
        raise InvalidRequest(f"the word for {file} is empty; give it as {file}=WORD")
    return Embedding(chosen.strip(), vectors, file, reference)


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [path / DIFFUSERS_NAME] if (path / DIFFUSERS_NAME).is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise InvalidModel(
            f"{path} is no embedding: a folder of one has {DIFFUSERS_NAME}, or one .safetensors file alone"
        )
    return files[0]


def _vectors(tensors: Mapping[str, Tensor]) -> tuple[str | None, dict[str, Tensor]]:
    """(the word in the file, the vectors), in diffusers' form, web UIs' and SDXL's."""
    flat = {key: value.reshape(-1, value.shape[-1]) for key, value in tensors.items() if value.ndim in (1, 2)}
    if set(_ENCODERS) & set(flat):
        return None, {_ENCODERS[key]: value for key, value in flat.items() if key in _ENCODERS}
    if "emb_params" in flat:
        return None, {"": flat["emb_params"]}
    if key := next((key for key in flat if key.startswith("string_to_param")), None):
        return None, {"": flat[key]}
    if len(flat) == 1:
        ((word, value),) = flat.items()
        return word, {"": value}
    return None, {}


class EmbeddingTable(nn.Module):
    """A text encoder's vectors by token: its vocabulary's under ids from 0 up, others from -1 down."""

    def __init__(self, vocabulary: nn.Embedding, vectors: Sequence[Tensor]) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        like = vocabulary.weight
        self.vectors = nn.Parameter(torch.cat([each.to(like) for each in vectors]), requires_grad=False)

    @classmethod
    def on(cls, table: nn.Module, vectors: Sequence[Tensor]) -> Self:
        """Beside a vocabulary, or beside a table with the vectors that it has."""
        if isinstance(table, EmbeddingTable):
            return cls(table.vocabulary, [table.vectors, *vectors])
        assert isinstance(table, nn.Embedding)
        return cls(table, vectors)

    @property
    def weight(self) -> Tensor:
        return self.vocabulary.weight

    def forward(self, ids: Tensor) -> Tensor:
        known: Tensor = self.vocabulary(ids.clamp(min=0))
        own = self.vectors[(-1 - ids).clamp(min=0)].to(known.dtype)
        return torch.where((ids < 0)[..., None], own, known)


def with_embeddings(model: Model, sources: Iterable[EmbeddingSource]) -> Model:
    """A model with words of one's own, more than those that this one has, and text encoders that know them.

    Raises `ModelNotFound`, `InvalidModel` for one of another family, `InvalidRequest` for a word that is taken.
    """
    known = model.adapters.embeddings or Embeddings()
    added: dict[str, list[Tensor]] = {}
    for source in sources:
        embedding = _find(source)
        for part, vectors in _vectors_for(embedding, model).items():
            added.setdefault(part, []).append(vectors)
        known = known.plus(embedding)
    networks = dict(model.networks)
    for part, each in added.items():
        table = networks[part].get_input_embeddings()  # type: ignore[operator]
        networks[part] = rebuilt(networks[part], {table: EmbeddingTable.on(table, each)})
    return model.with_networks(networks, dataclasses.replace(model.adapters, embeddings=known))


def _vectors_for(embedding: Embedding, model: Host) -> Mapping[str, Tensor]:
    """The vectors by text encoder; raises `InvalidModel` where they are for others."""
    encoders = {part: network for part, network in model.networks.items() if part in _ENCODERS.values()}
    vectors = {next(iter(encoders)): embedding.vectors[""]} if "" in embedding.vectors else embedding.vectors
    widths = {part: encoder.config.hidden_size for part, encoder in encoders.items()}  # type: ignore[union-attr]
    if {part: each.shape[1] for part, each in vectors.items()} != widths:
        own = named(model.text_width, "of another kind")
        raise InvalidModel(
            f"the embedding {embedding.path.name} was made for {_made_for(embedding)} and {model.name} is {own}"
        )
    return vectors


def _made_for(embedding: Embedding) -> str:
    """The base, in words."""
    vectors = embedding.vectors
    return "SDXL" if len(vectors) > 1 else named(next(iter(vectors.values())).shape[1])


def _find(source: EmbeddingSource) -> Embedding:
    """From a path or a hub id, with =WORD behind it or a pair of the two."""
    name, word = (str(source[0]), source[1]) if isinstance(source, tuple) else (str(source), None)
    if word is None and not Path(name).expanduser().exists() and "=" in name:
        name, _, word = name.rpartition("=")
    path = Path(name).expanduser()
    if path.exists():
        return read_embedding(path, word)
    if _HUB.fullmatch(name):
        from fewstep.models.adapters.lora.source import fetch_file

        return read_embedding(fetch_file(name, DIFFUSERS_NAME, "embedding"), word, reference=name)
    raise ModelNotFound(f"no embedding {name!r}: give a .safetensors file, FILE=WORD, or a hub id (owner/name)")
