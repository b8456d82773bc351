"""What a family of models is: how it is recognised, its parts, and what only it knows of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import torch
from torch import Tensor, nn

from fewstep.core.profile import SamplingProfile
from fewstep.errors import InvalidModel
from fewstep.models.conditioning import Conditioning
from fewstep.models.config import Config
from fewstep.models.text.tokenizer import Tokenizer
from fewstep.models.traits import Traits

if TYPE_CHECKING:
    from diffusers import ModelMixin

    from fewstep.models.text.own_words import Embeddings

Size = tuple[int, int]  # height, width
Inputs = dict[str, Tensor | Sequence[Tensor]]  # of a network, by name


class Text(Protocol):
    """The part that reads words.

    encoders, tokenizers  by their folders
    device                of a call: where the encoders run
    """

    @property
    def encoders(self) -> Mapping[str, nn.Module]: ...

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]: ...

    def holding(self, encoders: Mapping[str, nn.Module]) -> Text:
        """The same with other encoders."""
        ...

    def knowing(self, words: Embeddings) -> Text:
        """The same, which understands words of one's own too; raises `InvalidModel` where it has no room for them."""
        ...

    def read(self, texts: Sequence[str], device: torch.device) -> Conditioning:
        """Texts to the letter, cut off where they are longer than is read at once."""
        ...

    def read_prompts(self, prompts: Sequence[str], device: torch.device) -> Conditioning:
        """Prompts with their marks (`prompt_weights.parse`), all as many windows long; raises ValueError."""
        ...

    def as_negative(self, prompt: str, cond: Conditioning) -> Conditioning:
        """What guidance leads away from for this prompt, whose own states are `cond`.

        For an empty one that is what training put in the place of words that were dropped.
        """
        ...

    def num_windows(self, prompt: str) -> int:
        """How many times the encoders read for this prompt."""
        ...

    def unread(self, prompt: str) -> str:
        """What of a prompt lies beyond what is read."""
        ...

    def too_long(self, text: str) -> tuple[int, int, str] | None:
        """(how many tokens a text has, how many `read` reads, what it does not see); None where all is seen."""
        ...


class Network(ABC):
    """The part that predicts: network(x_t, t, cond, w) -> raw output, as `core.prediction.Denoiser` wants it.

    It is split in two, so that whatever runs networks can trace any of them: `inputs` are tensors by name, always the
    same for one network, in the precision that it runs in, and `run` calls it.
    """

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """diffusers' own object, or a lean one (`lean.part.twin_of`)."""

    @property
    @abstractmethod
    def config(self) -> Config: ...

    @property
    @abstractmethod
    def text_width(self) -> int:
        """Of the token states that it reads."""

    @property
    @abstractmethod
    def embeds_w(self) -> bool:
        """Whether w is an input (a guidance-distilled model)."""

    @property
    def takes_w(self) -> bool:
        """Whether a student of it can read w; it need not do so itself."""
        return self.embeds_w

    @abstractmethod
    def holding(self, module: nn.Module) -> Self:
        """The same with another module."""

    @abstractmethod
    def student(self, w_dim: int | None) -> nn.Module:
        """A float32 copy of the module, to be trained, that also reads w; at first the same function.

        w_dim  of the embedding of w; None for a copy that reads none. One that reads w already keeps its own embedding
        """

    @abstractmethod
    def copy(self, state: Mapping[str, Tensor]) -> nn.Module:
        """Another module of the same shape that holds the tensors of `state` themselves; frozen."""

    @abstractmethod
    def inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs: ...

    @abstractmethod
    def run(self, inputs: Inputs) -> Tensor: ...

    def __call__(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None = None) -> Tensor:
        return self.run(self.inputs(x_t, t, cond, w))


@dataclass(frozen=True, eq=False)
class DiffusersNetwork(Network):
    """One of diffusers' networks, which reads no w: a family adds `text_width`, `inputs` and `run`."""

    model: ModelMixin

    @property
    def module(self) -> nn.Module:
        return self.model

    @property
    def config(self) -> Config:
        config: Config = self.model.config
        return config

    @property
    def embeds_w(self) -> bool:
        return False

    def holding(self, module: nn.Module) -> Self:
        return replace(self, model=module)

    def student(self, w_dim: int | None) -> nn.Module:
        """Raises `InvalidModel` where w is to be read."""
        if w_dim is not None:
            raise InvalidModel("this network has no place for w: train it for one guidance, or for none")
        return self.copy(self.model.state_dict(), frozen=False)

    def copy(self, state: Mapping[str, Tensor], *, frozen: bool = True) -> nn.Module:
        # of a network that is divided among processes, PyTorch makes a class of its own
        kind = next(each for each in type(self.model).__mro__ if each.__module__.startswith("diffusers."))
        with torch.random.fork_rng(devices=[]):  # not on the meta device: some buffers are in no state
            copy: ModelMixin = kind.from_config(self.config)  # type: ignore[attr-defined]
        copy.load_state_dict(state, assign=True)
        copy.to(next(iter(state.values())).device)
        return copy.eval().requires_grad_(False) if frozen else deepcopy(copy).float().requires_grad_(True)


@dataclass(frozen=True, eq=False)
class NetworkWrapper(Network):
    """Around another: a wrapper changes `inputs`, `run` or the call, and leaves the rest to the one inside."""

    inner: Network

    @property
    def module(self) -> nn.Module:
        return self.inner.module

    @property
    def config(self) -> Config:
        return self.inner.config

    @property
    def text_width(self) -> int:
        return self.inner.text_width

    @property
    def embeds_w(self) -> bool:
        return self.inner.embeds_w

    @property
    def takes_w(self) -> bool:
        return self.inner.takes_w

    def holding(self, module: nn.Module) -> Self:
        raise NotImplementedError("a wrapped network is not trained, and adapters are put around it, not into it")

    def student(self, w_dim: int | None) -> nn.Module:
        return self.inner.student(w_dim)

    def copy(self, state: Mapping[str, Tensor]) -> nn.Module:
        return self.inner.copy(state)

    def inputs(self, x_t: Tensor, t: Tensor, cond: Conditioning, w: Tensor | None) -> Inputs:
        return self.inner.inputs(x_t, t, cond, w)

    def run(self, inputs: Inputs) -> Tensor:
        return self.inner.run(inputs)


@dataclass(frozen=True)
class Part:
    """A folder of a model: what is in it, in words, and the classes that it may hold, each with the module of its home
    (by their narrow paths: the package roots import several seconds' worth of other models).

    files  that are fetched of it from the hub
    """

    what: str
    classes: Mapping[str, str]
    files: tuple[str, ...] = ("*.json", "*.safetensors")


AUTOENCODER = Part(
    "autoencoder",
    {
        "AutoencoderTiny": "diffusers.models.autoencoders.autoencoder_tiny",
        "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    },
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Family(ABC):
    """Models whose parts fit together and are called in the same way.

    name        in words: "SDXL"
    denoiser    the folder of its network, and its name in LoRA files
    networks    every folder of a model with a network in it, `denoiser` and "vae" among them
    tokenizers  every folder with a tokenizer, in the order of the text encoders
    tiny        the hub id of an autoencoder that is much faster
    must_match  what a network that takes another's place must say alike in its config
    optional    folders that a model may lack
    """

    name: str
    denoiser: str
    networks: Mapping[str, Part]
    tokenizers: Mapping[str, Part]
    tiny: str | None = None
    must_match: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def encoders(self) -> tuple[str, ...]:
        """The folders of its text encoders."""
        return tuple(part for part in self.networks if part not in (self.denoiser, "vae"))

    @abstractmethod
    def recognise(self, config: Config) -> Family | None:
        """The family of a network with this config: itself, a kin of another size, or None."""

    @abstractmethod
    def text(self, encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, Tokenizer], index: Config) -> Text:
        """Its part that reads words; `index` is the content of model_index.json."""

    @abstractmethod
    def network(self, module: nn.Module) -> Network: ...

    @abstractmethod
    def traits(self, network: Config, autoencoder: Config) -> Traits | None:
        """From the two configs; None where they leave to diffusers' defaults what must be known."""

    def embeds_w(self, network: Config) -> bool:
        """Whether w is an input of a network with this config."""
        return False

    def check(self, origin: Path, network: Config) -> None:
        """Raises `InvalidModel` for a network that is recognised and cannot be sampled."""
        return

    def sizes(self, picture: Size, corner: Size, crop: Size) -> tuple[int, ...] | None:
        """The vector that its network reads for a picture (height, width), of which a crop with that corner (top, left)
        is made; None where it reads none.
        """
        return None

    def described(self, layers: Iterable[str]) -> str:
        """Its name, with what was cut out of a network with these layers."""
        return self.name

    def incomplete(self, missing: str, there: Collection[str]) -> str:
        """What is wrong with a folder that has those parts and lacks one."""
        return f"has no {missing}/ folder, which a latent diffusion model needs"

    def lora_names(self, part: str, layers: Collection[str], config: Config) -> Mapping[str, str]:
        """Other names, with dots, that LoRA files give to the layers of a part."""
        return {}

    def read_network(self, path: Path, config: Config, dtype: torch.dtype) -> nn.Module:
        """Its network alone from a `.safetensors` file, in the names of any program, of the shape of `config`."""
        raise InvalidModel(f"{path}: fewstep reads no network of {self.name} from a file; give a folder")

    def index(self, text: Text, profile: SamplingProfile) -> Config:
        """What model_index.json says beside the classes of the parts, so that diffusers opens the folder."""
        return {}
