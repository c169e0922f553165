"""Latent world models from video, inverse dynamics on the same latents, and planning with both.

The public API is `__all__`; names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jepa_actions.data import ActionCodec, load_dataset
    from jepa_actions.evaluation.plan import plan
    from jepa_actions.models import InverseHead, VideoEncoder, WorldModel
    from jepa_actions.planning import CEM, MPC, CEMConfig, LatentCost, Problem

__version__ = "0.1.0"

_HOMES = {
    "ActionCodec": "jepa_actions.data",
    "CEM": "jepa_actions.planning",
    "CEMConfig": "jepa_actions.planning",
    "InverseHead": "jepa_actions.models",
    "LatentCost": "jepa_actions.planning",
    "MPC": "jepa_actions.planning",
    "Problem": "jepa_actions.planning",
    "VideoEncoder": "jepa_actions.models",
    "WorldModel": "jepa_actions.models",
    "load_dataset": "jepa_actions.data",
    "plan": "jepa_actions.evaluation.plan",
}

__all__ = [
    "CEM",
    "MPC",
    "ActionCodec",
    "CEMConfig",
    "InverseHead",
    "LatentCost",
    "Problem",
    "VideoEncoder",
    "WorldModel",
    "load_dataset",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'jepa_actions' has no attribute {name!r}")
