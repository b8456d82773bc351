"""What A1111's clients are answered, by its own names."""

from __future__ import annotations

from pydantic import JsonValue
from typing_extensions import TypedDict


class Info(TypedDict):
    """How pictures were made, each of the lists with an entry a picture; `warnings` are ours."""

    prompt: str
    all_prompts: list[str]
    negative_prompt: str
    all_negative_prompts: list[str]
    seed: int
    all_seeds: list[int]
    subseed: int
    all_subseeds: list[int]
    subseed_strength: float | None
    width: int
    height: int
    sampler_name: str
    cfg_scale: float
    steps: int
    batch_size: int
    denoising_strength: float | None
    sd_model_name: str
    sd_model_hash: str
    infotexts: list[str]
    styles: list[str]
    job_timestamp: str
    clip_skip: int
    index_of_first_image: int
    extra_generation_params: dict[str, str]
    warnings: list[str]


class State(TypedDict):
    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str
    job_count: int
    job_timestamp: str
    job_no: int
    sampling_step: int
    sampling_steps: int


class Progress(TypedDict):
    """How far a request is, 0 to 1, and in how many seconds it is done; the picture so far is a PNG in base64."""

    progress: float
    eta_relative: float
    state: State
    current_image: str | None
    textinfo: str | None


class Nothing(TypedDict):
    pass


class Options(TypedDict):
    sd_model_checkpoint: str
    sd_checkpoint_hash: str
    samples_format: str


class Inscription(TypedDict):
    """The text that a picture carries, all its chunks, and our record of how it was made, where there is one."""

    info: str
    items: dict[str, str]
    parameters: dict[str, JsonValue]


class Checkpoint(TypedDict):
    title: str
    model_name: str
    filename: str
    config: str | None
    hash: str
    sha256: str | None


class Adapter(TypedDict):
    name: str
    alias: str
    path: str
    metadata: dict[str, str]


class Sampler(TypedDict):
    name: str
    aliases: list[str]
    options: dict[str, str]


class Scheduler(TypedDict):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float
    need_inner_model: bool
