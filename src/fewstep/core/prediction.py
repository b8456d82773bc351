"""What a network says and what it means: eps, v, x_0, flow and TrigFlow are names for one prediction at a known x_t.

With x_t = alpha x_0 + sigma eps, every kind of output is a sum y = a eps + b x_0, with weights that depend on alpha and
sigma alone. Two equations in two unknowns: at a known x_t, any kind follows from any other, exactly. `alpha` and
`sigma` are scalars or (B,), in float64 until they meet x_t.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewstep.core.schedule import broadcast

Weight = float | Tensor


class Prediction(ABC):
    """A kind of output y = a eps + b x_0.

    name      diffusers' `prediction_type`
    singular  what to tell where y says no more than x_t does, for the kinds that know such a place
    """

    name: ClassVar[str]
    singular: ClassVar[str] = ""

    @abstractmethod
    def weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Weight, Weight]:
        """(a, b)."""

    def check(self, alpha: Tensor, sigma: Tensor) -> None:
        """Raise ValueError where y and x_t do not tell x_0 from eps.

        It looks on the CPU only: elsewhere that would stall the device, and `Denoiser` has looked.
        """
        if self.singular and alpha.device.type == "cpu":
            a, b = self.weights(alpha, sigma)
            if bool((a * alpha == b * sigma).any()):
                raise ValueError(self.singular)

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_0 = (a x_t - sigma y) / (a alpha - b sigma), in float32 at least."""
        self.check(alpha, sigma)
        a, b = self.weights(alpha, sigma)
        determinant = a * alpha - b * sigma
        return broadcast(a / determinant, x_t) * x_t - broadcast(sigma / determinant, x_t) * output

    def eps(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """eps = (alpha y - b x_t) / (a alpha - b sigma), in float32 at least."""
        self.check(alpha, sigma)
        a, b = self.weights(alpha, sigma)
        determinant = a * alpha - b * sigma
        return broadcast(alpha / determinant, x_t) * output - broadcast(b / determinant, x_t) * x_t

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What a network of this kind should say for x_t = alpha x_0 + sigma noise: a noise + b x_0."""
        a, b = self.weights(alpha, sigma)
        return broadcast(a, x_0) * noise + broadcast(b, x_0) * x_0

    def to(self, kind: Prediction, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What a network of another kind would say where one of this kind says `output`."""
        known = (output, x_t, alpha, sigma)
        return kind.target(self.x0(*known), self.eps(*known), alpha, sigma)


@dataclass(frozen=True)
class Epsilon(Prediction):
    """eps: the noise in x_t (DDPM, 2006.11239). x_0 = (x_t - sigma eps) / alpha."""

    name: ClassVar[str] = "epsilon"
    singular: ClassVar[str] = (
        "epsilon prediction cannot recover x_0 where alpha is 0 (the last time of a zero-terminal-SNR schedule or of a "
        "flow): x_t is pure noise there. Use a v_prediction or sample model, or a schedule without that rescale"
    )

    def weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Weight, Weight]:
        return 1.0, 0.0

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return noise


@dataclass(frozen=True)
class Velocity(Prediction):
    """v = alpha eps - sigma x_0 (Salimans & Ho 2022, 2202.00512, app. D). Where alpha^2 + sigma^2 is 1,
    x_0 = alpha x_t - sigma v."""

    name: ClassVar[str] = "v_prediction"

    def weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Weight, Weight]:
        return alpha, -sigma


@dataclass(frozen=True)
class Sample(Prediction):
    """x_0 itself."""

    name: ClassVar[str] = "sample"
    singular: ClassVar[str] = "a sample (x_0) prediction cannot recover eps where sigma is 0: clean data holds no noise"

    def weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Weight, Weight]:
        return 0.0, 1.0

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The output, where sigma is 0 as well."""
        return broadcast(1.0, x_t) * output

    def target(self, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x_0


@dataclass(frozen=True)
class Flow(Prediction):
    """u = eps - x_0, the velocity of rectified flow (2209.03003). Where alpha + sigma is 1, x_0 = x_t - sigma u."""

    name: ClassVar[str] = "flow_prediction"

    def weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Weight, Weight]:
        return 1.0, -1.0


@dataclass(frozen=True)
class Trig(Prediction):
    """F = cos(t) eps - sin(t) x_0 / sigma_data of TrigFlow (sCM, 2410.11081, sec. 3): x_0 = alpha x_t - sigma F.

    sigma_data  of its `TrigFlow`; with 1 it is v
    """

    sigma_data: float = 1.0
    name: ClassVar[str] = "trigflow"

    def weights(self, alpha: Tensor, sigma: Tensor) -> tuple[Weight, Weight]:
        return alpha, -sigma / self.sigma_data**2


EPSILON, SAMPLE = Epsilon(), Sample()
PREDICTIONS: dict[str, Prediction] = {each.name: each for each in (EPSILON, Velocity(), SAMPLE, Flow(), Trig())}
DISCRETE = (EPSILON.name, Velocity.name, SAMPLE.name)  # what networks on a table of betas predict
