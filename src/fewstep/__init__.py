"""fewstep: Latent Consistency Models, a sentence becomes a picture in one to four steps.

>>> import fewstep
>>> model = fewstep.load("starter")
>>> image = fewstep.text2image(model, "a sleepy fox", steps=4, seed=7)

Importing the package is cheap: torch and the model libraries are imported by the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.errors import FewstepError as FewstepError
    from fewstep.models.loading import load as load
    from fewstep.pipelines.image2image import image2image as image2image
    from fewstep.pipelines.text2image import text2image as text2image
    from fewstep.pipelines.travel import travel as travel

__version__ = "0.1.0"
__all__ = ["FewstepError", "__version__", "image2image", "load", "text2image", "travel"]

_HOMES = {
    "FewstepError": "fewstep.errors",
    "load": "fewstep.models.loading",
    "text2image": "fewstep.pipelines.text2image",
    "image2image": "fewstep.pipelines.image2image",
    "travel": "fewstep.pipelines.travel",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fewstep' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
