"""What a run trains, how, how long and with what: typed, checked before anything is allocated.

The objective's own settings are in `core.objectives`. The options of the training commands are made from these records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fewstep.core.objectives.base import Method, Objective
from fewstep.core.settings import check, setting
from fewstep.data.config import DataConfig
from fewstep.errors import InvalidConfig

PANELS = DATA, HOW, WATCHED, WHERE = "Data", "How", "What is watched", "Where"  # of `--help`
OPTIMIZERS = ("muon", "adamw", "adamw8bit")
PRECISIONS = ("float32", "bfloat16", "float16")
# The layers that LCM-LoRA adapts (diffusers' consistency_distillation examples): attention, its projections and
# feed-forwards, the convolutions of the residual blocks, and what brings the time into them.
LCM_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip
STYLE_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """One run of the loop. Lengths are counted in pictures, so a batch size may change without touching them."""

    panel: ClassVar[str] = HOW

    pictures: int = setting(option="--pictures", help="Pictures to see in all; a larger number goes on.", low=1)
    """Pictures to have seen at the end; a larger number given later goes on from where the run stopped."""
    batch_size: int = setting(option="--batch-size", help="Pictures a step, over all processes. [default: 16]", low=1)
    """Pictures of one step of the optimiser, over all processes and accumulated parts together."""
    accumulate: int = setting(1, "--accumulate", "Parts of a batch, for less memory. [default: 1]")
    """Parts that each process divides its share of a batch into: as many times less memory, nearly the same result."""
    optimizer: str = setting("muon", "--optimizer", "adamw, muon, adamw8bit. [default: adamw]", choices=OPTIMIZERS)
    """`muon` (matrices by Muon, the rest by Adam), `adamw`, or `adamw8bit` (bitsandbytes, where it is installed)."""
    lr: float = setting(0.01, "--lr", "The learning rate.", above=0)
    adam_lr: float = setting(1e-3, above=0)
    """Adam's rate for what Muon does not take; unused by `adamw`, which takes `lr` for everything."""
    weight_decay: float = 0.0
    warmup: int = 2_000
    """Pictures over which the rate rises linearly."""
    cooldown: float = setting(0.0, low=0, high=1)
    """The last fraction of `pictures` over which the rate falls linearly to zero; 0 keeps it constant."""
    clip: float = 1.0
    ema_halflife: int = 20_000
    """Pictures after which a weight's share in the average has halved; short at first (a tenth of what was seen)."""
    precision: str = setting(
        "float32", "--precision", "float32, bfloat16, float16. [default: float32]", choices=PRECISIONS
    )
    """What the networks compute in; weights in training, their average and the optimiser stay float32."""
    seed: int = setting(0, "--seed", "Of everything that is drawn. [default: 0]")
    minutes: float | None = setting(None, "--minutes", "Stop after so long, with a checkpoint.", panel=WHERE)
    """Stop (checkpointed) after this long, though `pictures` are not reached."""
    checkpoint_minutes: float = setting(5.0, "--checkpoint-minutes", "Between checkpoints. [default: 5]", panel=WHERE)
    explosion: float | None = setting(None, above=1)
    """Stop when the loss, over 50 steps, is so many times the lowest that it was."""

    def __post_init__(self) -> None:
        check(self, InvalidConfig)
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise InvalidConfig(f"accumulate={self.accumulate} must divide batch_size={self.batch_size}")

    def rate(self, seen: int) -> float:
        """The factor on the learning rates after `seen` pictures, in [0, 1]."""
        rise = min(1.0, (seen + self.batch_size) / max(self.warmup, 1))
        left = (self.pictures - seen) / max(self.cooldown * self.pictures, 1)
        return rise * (min(1.0, max(left, 0.0)) if self.cooldown else 1.0)

    def ema_decay(self, seen: int) -> float:
        """The average's decay for one step after `seen` pictures."""
        halflife = min(self.ema_halflife, max(seen, self.batch_size) / 10)
        return float(0.5 ** (self.batch_size / halflife))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """A low-rank adapter in place of the whole network; its teacher is the same network with the adapter off."""

    panel: ClassVar[str] = HOW

    rank: int = setting(64, "--rank", "The LoRA's rank: larger learns more, and is a larger file.", low=1)
    """LCM-LoRA's; a style is usually content with 8 to 32."""
    alpha: float | None = setting(None, "--alpha", "The LoRA's alpha. [default: the rank]", above=0)
    """The adapter is scaled by alpha / rank; None: the rank, a scale of one. (LCM's own script leaves PEFT's 8.)"""
    targets: tuple[str, ...] = LCM_TARGETS
    """Ends of the names of the layers that are adapted."""

    def __post_init__(self) -> None:
        check(self, InvalidConfig)
        if not self.targets:
            raise InvalidConfig(f"targets={self.targets} must name layers: the ends of their names")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What is looked at while the run goes on: the loss alone does not tell whether pictures get better."""

    panel: ClassVar[str] = WATCHED

    every: int | None = setting(None, "--every", "Pictures between sheets. [default: a tenth of all]", low=1)
    """Pictures between two sheets of samples; None: a tenth of the run."""
    prompts: tuple[str, ...] = setting((), "--prompt", "Of the sheets; repeat for several. [default: captions]")
    """What the sheets show; none: eight captions of the data."""
    steps: tuple[int, ...] = setting((), "--steps", "Of the sheets. [default: 1,2,4,8]")
    """A row for each step count; none: 1, 2, 4, 8, or the teacher's own count for a style."""
    guidance_scale: float | None = None
    seed: int = 0
    best: str | None = setting(None, "--best", "The measure to keep the best by (the least; with a minus, the most).")
    """The measure by which the best weights are kept and shipped; with a minus sign, the more the better."""
    patience: int | None = setting(None, "--patience", "Sheets without a better measure before it stops.", low=1)
    """Stop when so many measures in a row brought nothing better than the best."""
    tensorboard: bool = setting(False, "--tensorboard/--no-tensorboard", "Also log for TensorBoard.")

    def __post_init__(self) -> None:
        check(self, InvalidConfig)
        if self.patience is not None and self.best is None:
            raise InvalidConfig("patience needs the measure that it waits for: best")
        if any(count < 1 for count in self.steps):
            raise InvalidConfig(f"steps={self.steps} must be numbers from 1 up")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A whole run: `train(config, folder)` needs nothing else.

    The objective says what is done with `model`: it is a teacher to distil, a consistency model to fine-tune, or a
    diffusion model that gets a style.
    """

    panel: ClassVar[str] = HOW

    model: str
    data: DataConfig
    fit: FitConfig
    objective: Objective
    lora: LoraConfig | None = None
    watch: WatchConfig = field(default_factory=WatchConfig)
    checkpointing: bool = setting(False, "--checkpointing/--no-checkpointing", "Less memory, a third more time.")
    """Compute activations anew in the backward pass: less memory, about a third more time."""
    device: str | None = setting(None, "--device", "cpu, cuda, mps. [default: the best one here]", panel=WHERE)
    name: str | None = None
    """What the result calls itself; None: the run folder's name."""

    def __post_init__(self) -> None:
        if self.method == "style" and self.lora is None:
            raise InvalidConfig("a style is trained as a LoRA: give lora=LoraConfig(...)")

    @property
    def method(self) -> Method:
        return self.objective.method
