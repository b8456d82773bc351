"""fewstep: Latent Consistency Models, a sentence becomes a picture in one to four steps.

>>> import fewstep
>>> model = fewstep.load("starter")
>>> image = fewstep.text2image(model, "a sleepy fox", steps=4, seed=7)

generate   load, text2image, image2image, travel; generate(model, Request.of("a fox", steps=4)) for requests as records
theory     DiscreteSchedule, RectifiedFlow, TrigFlow (each a Schedule), SamplingProfile; samplers.SAMPLERS, objectives
models     LatentModel: what everything above asks of a model, `model.denoise(x_t, t, cond, w)` among it
train      train.train(config, folder), with train.RunConfig and its parts
evaluate   evaluate.evaluate(config, folder), with evaluate.EvaluateConfig

Importing the package is cheap: torch and the model libraries are imported by the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewstep.lazily import offered

if TYPE_CHECKING:
    from fewstep import evaluate as evaluate
    from fewstep import train as train
    from fewstep.core import objectives as objectives
    from fewstep.core import samplers as samplers
    from fewstep.core.profile import SamplingProfile as SamplingProfile
    from fewstep.core.schedule import Schedule as Schedule
    from fewstep.core.schedules.discrete import DiscreteSchedule as DiscreteSchedule
    from fewstep.core.schedules.rectified_flow import RectifiedFlow as RectifiedFlow
    from fewstep.core.schedules.trig_flow import TrigFlow as TrigFlow
    from fewstep.errors import FewstepError as FewstepError
    from fewstep.models.latent_model import LatentModel as LatentModel
    from fewstep.models.loading import load as load
    from fewstep.pipelines.generate import generate as generate
    from fewstep.pipelines.image2image import image2image as image2image
    from fewstep.pipelines.request import Request as Request
    from fewstep.pipelines.text2image import text2image as text2image
    from fewstep.pipelines.travel import travel as travel

__version__ = "0.1.0"
_HOMES = {
    "DiscreteSchedule": "fewstep.core.schedules.discrete",
    "FewstepError": "fewstep.errors",
    "LatentModel": "fewstep.models.latent_model",
    "RectifiedFlow": "fewstep.core.schedules.rectified_flow",
    "Request": "fewstep.pipelines.request",
    "SamplingProfile": "fewstep.core.profile",
    "Schedule": "fewstep.core.schedule",
    "TrigFlow": "fewstep.core.schedules.trig_flow",
    "generate": "fewstep.pipelines.generate",
    "image2image": "fewstep.pipelines.image2image",
    "load": "fewstep.models.loading",
    "text2image": "fewstep.pipelines.text2image",
    "travel": "fewstep.pipelines.travel",
}
_ROOMS = ("fewstep.core.objectives", "fewstep.core.samplers", "fewstep.evaluate", "fewstep.train")
__all__ = ["__version__", "evaluate", "objectives", "samplers", "train", *_HOMES]
__getattr__ = offered(__name__, _HOMES, _ROOMS)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
