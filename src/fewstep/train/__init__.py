"""Training: one loop, its resumable state, and the configs of a run: `train(config, folder)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewstep.lazily import offered

if TYPE_CHECKING:
    from fewstep.data.config import DataConfig as DataConfig
    from fewstep.train.config import FitConfig as FitConfig
    from fewstep.train.config import LoraConfig as LoraConfig
    from fewstep.train.config import RunConfig as RunConfig
    from fewstep.train.config import WatchConfig as WatchConfig
    from fewstep.train.defaults import default_config as default_config
    from fewstep.train.run import train as train

_CONFIGS = ("FitConfig", "LoraConfig", "RunConfig", "WatchConfig")
_HOMES = dict.fromkeys(_CONFIGS, "fewstep.train.config") | {
    "DataConfig": "fewstep.data.config",
    "default_config": "fewstep.train.defaults",
    "train": "fewstep.train.run",
}
__all__ = [*_HOMES]
__getattr__ = offered(__name__, _HOMES)
