"""How long, how fast and with what a run trains: typed, checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.errors import FewstepError


class InvalidConfig(FewstepError):
    """A training configuration holds a value that cannot work; the message says which and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """One run of the loop. Lengths are counted in pictures, so a batch size may change without touching them."""

    pictures: int
    """Pictures to have seen at the end; a larger number given later goes on from where the run stopped."""
    batch_size: int
    optimizer: str = "muon"
    """`muon` (matrices by Muon, the rest by Adam) or `adamw`."""
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
    seed: int = 0
    checkpoint_minutes: float = 5.0
    minutes: float | None = None
    """Stop (checkpointed) after this long, though `pictures` are not reached."""

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.batch_size < 1:
            raise InvalidConfig(f"pictures={self.pictures} and batch_size={self.batch_size} must be at least 1")
        if self.optimizer not in ("muon", "adamw"):
            raise InvalidConfig(f"optimizer={self.optimizer!r} is unknown; use 'muon' or 'adamw'")
        if not 0 <= self.cooldown <= 1:
            raise InvalidConfig(f"cooldown={self.cooldown} is a fraction of the run: use 0 to 1")
        if not self.lr > 0 or not self.adam_lr > 0:
            raise InvalidConfig(f"lr={self.lr} and adam_lr={self.adam_lr} must be positive")

    def rate(self, seen: int) -> float:
        """The factor on the learning rates after `seen` pictures, in [0, 1]."""
        rise = min(1.0, (seen + self.batch_size) / max(self.warmup, 1))
        left = (self.pictures - seen) / max(self.cooldown * self.pictures, 1)
        return rise * (min(1.0, max(left, 0.0)) if self.cooldown else 1.0)

    def ema_decay(self, seen: int) -> float:
        """The average's decay for one step after `seen` pictures."""
        halflife = min(self.ema_halflife, max(seen, self.batch_size) / 10)
        return float(0.5 ** (self.batch_size / halflife))
