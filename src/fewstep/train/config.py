"""What a run trains, how, how long and with what: typed, checked before anything is allocated.

Every option of the algorithm has its evidence beside it. Numbers of papers are their authors'; what fewstep measured
itself is in docs/distillation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fewstep.core.losses import METRICS
from fewstep.core.samplers import SOLVERS
from fewstep.data.config import DataConfig
from fewstep.errors import InvalidConfig

Method = Literal["distill", "finetune", "style"]
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

    pictures: int
    """Pictures to have seen at the end; a larger number given later goes on from where the run stopped."""
    batch_size: int
    """Pictures of one step of the optimiser, over all processes and accumulated parts together."""
    accumulate: int = 1
    """Parts that each process divides its share of a batch into: as many times less memory, nearly the same result."""
    optimizer: str = "muon"
    """`muon` (matrices by Muon, the rest by Adam), `adamw`, or `adamw8bit` (bitsandbytes, where it is installed)."""
    lr: float = 0.01
    adam_lr: float = 1e-3
    """Adam's rate for what Muon does not take; unused by `adamw`, which takes `lr` for everything."""
    weight_decay: float = 0.0
    warmup: int = 2_000
    """Pictures over which the rate rises linearly."""
    cooldown: float = 0.0
    """The last fraction of `pictures` over which the rate falls linearly to zero; 0 keeps it constant."""
    clip: float = 1.0
    ema_halflife: int = 20_000
    """Pictures after which a weight's share in the average has halved; short at first (a tenth of what was seen)."""
    precision: str = "float32"
    """What the networks compute in; weights in training, their average and the optimiser stay float32."""
    seed: int = 0
    checkpoint_minutes: float = 5.0
    minutes: float | None = None
    """Stop (checkpointed) after this long, though `pictures` are not reached."""
    explosion: float | None = None
    """Stop when the loss, over 50 steps, is so many times the lowest that it was."""

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.batch_size < 1:
            raise InvalidConfig(f"pictures={self.pictures} and batch_size={self.batch_size} must be at least 1")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise InvalidConfig(f"accumulate={self.accumulate} must divide batch_size={self.batch_size}")
        if self.optimizer not in OPTIMIZERS:
            raise InvalidConfig(f"optimizer={self.optimizer!r} is unknown; use {', '.join(OPTIMIZERS)}")
        if self.precision not in PRECISIONS:
            raise InvalidConfig(f"precision={self.precision!r} is unknown; use {', '.join(PRECISIONS)}")
        if not 0 <= self.cooldown <= 1:
            raise InvalidConfig(f"cooldown={self.cooldown} is a fraction of the run: use 0 to 1")
        if not self.lr > 0 or not self.adam_lr > 0:
            raise InvalidConfig(f"lr={self.lr} and adam_lr={self.adam_lr} must be positive")
        if self.explosion is not None and not self.explosion > 1:
            raise InvalidConfig(f"explosion={self.explosion} is a factor: use more than 1, or None")

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
class ConsistencyConfig:
    """How a consistency function is trained: by a teacher (LCD) or by pictures alone (LCF)."""

    original_inference_steps: int = 50
    """Size of the grid of times t; LCM's is 50: 19, 39, …, 999."""
    k: int | None = None
    """The skipping interval: from t the target is asked at t - k. None: the grid's own spacing, 20 of 1000, or in the
    fine-tuning of a model of phases or trajectories all the way. LCM (fig. 3): k = 1 hardly learns, 5 to 20 converge
    within 2,000 steps, 50 needs a better solver than DDIM. A larger k with several `substeps` carries what is known
    near clean data to pure noise in fewer generations."""
    solver: str = "ddim"
    """The teacher's step from t to t - k: `ddim`, `dpm++` (2M: second order, wants two substeps) or `heun`. LCM (fig.
    3) holds up at k = 50 with DPM-Solver++ and not with DDIM; no public script offers anything but DDIM."""
    substeps: int = 1
    """In how many steps of the solver (with `path`: for a whole phase); each costs the teacher's calls."""
    w_range: tuple[float, float] | None = None
    """Guidance, in LCM's form (guidance_scale - 1): drawn uniformly from the range, fixed where both ends are equal,
    (0, 0) for none at all (then the student can be guided, and take negative prompts, itself). None: for a full
    student (0, 2 x the teacher's own scale), for a LoRA the teacher's own, for fine-tuning the model's own range. LCM
    draws from [2, 14]; LCM-LoRA fixes 7.5 (its paper; its script draws without telling the network, which then learns
    the average); PixArt-delta (fig. 2) finds fixed better than embedded in FID and CLIP."""
    embed_w: bool | None = None
    """Whether the student is told w, through a projection that starts at zero (LCM, appendix), so that at first it is
    the teacher. None: a full student with a range is."""
    empty: float = 0.05
    """Share of empty captions, so that the student knows the unconditional picture. Public scripts parse such an option
    and train with 0; PCM and TDD use 0.1 and 0.2, and their students take negative prompts."""
    metric: str = "huber"
    """`l2`, `huber` (elementwise, c = 0.001: nearly L1; all of diffusers' published commands), `pseudo_huber` (of the
    whole sample, iCT) or `cauchy` (2502.01441 finds impulsive outliers in latents, and it the best against them)."""
    boundary: str = "lcm"
    """`lcm`: c_skip and c_out with sigma_data 0.5. `hard`: 1 and 0 at t = 0 (PCM). On the grid they agree to 1e-5."""
    timestep_scaling: float = 10.0
    """s in the boundary scalings; saved with the model, as samplers need it."""
    target: str = "student"
    """`student`: the target is the student itself, without gradient (iCT, ECT, LCM-LoRA). `ema`: an average of it with
    `target_decay` a step. LCM's paper says 0.999943, which 4,000 steps move a fifth of the way; its scripts use 0.95,
    practically the student. `path`: solved, not learnt: the guided teacher walks from pure noise to a picture in
    `substeps` steps a phase, and from every state on its way the student must lead to the end of the phase. A picture
    seen is then a whole path; `k` and the grid's times are not used."""
    target_decay: float = 0.95
    phases: int = 1
    """Cut the trajectory into so many phases and learn to reach each one's end (PCM, 2405.18407): few-step sampling
    without fresh noise, best at as many steps as phases."""
    trajectory: bool = False
    """Learn to reach every earlier time of the phase, drawn uniformly, and not only its end (TCD, 2402.19159: at 4
    steps FID 15.03 becomes 12.68, and more steps go on helping, where LCM's do not). What a distillation
    does by default, with k = 100 and `pseudo_huber`: docs/distillation.md has the table that speaks for it."""
    ends: str = "uniform"
    """Where trajectories end. `uniform`: at any time below t - k, all alike (TCD). `walks`: as the steps of a walk do.
    From the last tenth of the times all the way, for only a single step goes so far, and it begins at pure noise; from
    below by k to t, uniformly in the logarithm, for walks of more steps take shorter ones. What a distillation does by
    default: docs/distillation.md."""
    gamma: float = 0.0
    """How much fresh noise the sampler adds, of TCD's, whose paper paints with 0.2 and whose scheduler with 0.3. In the
    ablations even 0.1 nearly doubles the distance to the drawings at four and eight steps. Sampling only."""

    def __post_init__(self) -> None:
        _one_of("solver", self.solver, sorted(SOLVERS))
        _one_of("metric", self.metric, METRICS)
        _one_of("boundary", self.boundary, ("lcm", "hard"))
        _one_of("target", self.target, ("student", "ema", "path"))
        _one_of("ends", self.ends, ("uniform", "walks"))
        if self.target == "path" and self.trajectory:
            raise InvalidConfig("target='path' learns the ends of phases and no trajectory: set phases, or trajectory")
        if self.target == "path" and self.k is not None:
            raise InvalidConfig(f"k={self.k} says where a target is asked, and target='path' walks there: leave k out")
        for name in ("original_inference_steps", "substeps", "phases"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name}={getattr(self, name)} must be at least 1")
        if self.k is not None and self.k < 1:
            raise InvalidConfig(f"k={self.k} must be at least 1, or None for the grid's spacing")
        if self.phases > self.original_inference_steps:
            raise InvalidConfig(
                f"phases={self.phases} are more than the {self.original_inference_steps} times of the grid"
            )
        if self.w_range is not None and not 0 <= self.w_range[0] <= self.w_range[1]:
            raise InvalidConfig(f"w_range={self.w_range} must be two numbers from 0 up, the lower first")
        for name in ("empty", "target_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidConfig(f"{name}={getattr(self, name)} must lie in [0, 1)")
        if not 0 <= self.gamma <= 1:
            raise InvalidConfig(f"gamma={self.gamma} must lie in [0, 1]")

    @property
    def sampler(self) -> str:
        """What the trained model is sampled with."""
        return "tcd" if self.trajectory or self.phases > 1 else "lcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """A low-rank adapter in place of the whole network; its teacher is the same network with the adapter off."""

    rank: int = 64
    """LCM-LoRA's; a style is usually content with 8 to 32."""
    alpha: float | None = None
    """The adapter is scaled by alpha / rank; None: the rank, a scale of one. (LCM's own script leaves PEFT's 8.)"""
    targets: tuple[str, ...] = LCM_TARGETS
    """Ends of the names of the layers that are adapted."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise InvalidConfig(f"rank={self.rank} must be at least 1, and targets={self.targets} not empty")
        if self.alpha is not None and not self.alpha > 0:
            raise InvalidConfig(f"alpha={self.alpha} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What is looked at while the run goes on: the loss alone does not tell whether pictures get better."""

    every: int | None = None
    """Pictures between two sheets of samples; None: a tenth of the run."""
    prompts: tuple[str, ...] = ()
    """What the sheets show; none: eight captions of the data."""
    steps: tuple[int, ...] = ()
    """A row for each step count; none: 1, 2, 4, 8, or the teacher's own count for a style."""
    guidance_scale: float | None = None
    seed: int = 0
    best: str | None = None
    """The measure by which the best weights are kept and shipped; with a minus sign, the more the better."""
    patience: int | None = None
    """Stop when so many measures in a row brought nothing better than the best."""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if (self.every is not None and self.every < 1) or (self.patience is not None and self.patience < 1):
            raise InvalidConfig(f"every={self.every} and patience={self.patience} must be at least 1, or None")
        if self.patience is not None and self.best is None:
            raise InvalidConfig("patience needs the measure that it waits for: best")
        if any(count < 1 for count in self.steps):
            raise InvalidConfig(f"steps={self.steps} must be numbers from 1 up")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A whole run: `train(config, folder)` needs nothing else.

    distill    LCD (LCM, Algorithm 1): `model` is the teacher
    finetune   LCF (LCM, Algorithm 4): `model` is a consistency model, which learns from the pictures alone
    style      an ordinary LoRA by the diffusion loss: `model` is a diffusion model
    """

    method: Method
    model: str
    data: DataConfig
    fit: FitConfig
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    lora: LoraConfig | None = None
    watch: WatchConfig = field(default_factory=WatchConfig)
    checkpointing: bool = False
    """Compute activations anew in the backward pass: less memory, about a third more time."""
    device: str | None = None
    name: str | None = None
    """What the result calls itself; None: the run folder's name."""

    def __post_init__(self) -> None:
        _one_of("method", self.method, ("distill", "finetune", "style"))
        if self.method != "distill" and self.consistency.target == "path":
            raise InvalidConfig(f"target='path' walks with a teacher, and method={self.method!r} has none")
        if self.method == "style" and self.lora is None:
            raise InvalidConfig("method='style' trains a LoRA: give lora=LoraConfig(...)")


def _one_of(name: str, value: str, allowed: object) -> None:
    names = list(allowed)  # type: ignore[call-overload]
    if value not in names:
        raise InvalidConfig(f"{name}={value!r} is unknown; use {', '.join(names)}")
