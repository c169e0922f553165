"""Older formats of a model folder, each brought to the next by one named step."""

import copy
from dataclasses import dataclass
from typing import Any

from jepa_actions.errors import CheckpointError


@dataclass(frozen=True)
class Migration:
    """What one format version added: fields of `config.json`, each with the value that keeps what older models compute.

    A field with a default needs a row here: `checkpoints/two_room` is format 1 and must load.
    """

    to: int  # the format version it leads to, from the one before
    name: str
    added: dict[str, Any]


MIGRATIONS = (
    Migration(
        2,
        "frozen backbones, V-JEPA 2's sizes, other dynamics",
        {
            "model.backbone": None,
            "model.attention": "auto",
            "model.rollout": {"precision": "float32", "compile": False},
            "model.predictor.mlp_ratio": 4.0,
            "model.predictor.mask_tokens": 3,
            "model.dynamics.conditioning": "token",
            "model.dynamics.proprio": 0,
            "model.dynamics.extrinsics": 0,
            "model.dynamics.normalise": False,
            "model.dynamics.norm_eps": 1e-6,
            "model.pooler.normalise": False,
            "codec.rotation": "additive",
        },
    ),
    Migration(
        3,
        "action codecs of poses, classes and lags",
        {
            "codec.poses": [],
            "codec.absolute": [],
            "codec.proprio_columns": None,
            "codec.lag": 0,
            "codec.classes": [],
            "codec.normalise": [],
        },
    ),
    Migration(
        4,
        "goals: temporal distance, goal-conditioned inverse, sub-goals",
        {
            "model.distance": None,
            "model.goal_inverse": None,
            "model.subgoal": None,
            "model.inverse.history": 1,
            "model.pooler.hidden": 256,
        },
    ),
    Migration(5, "patch features told from the state", {"model.features": None}),
    Migration(6, "golden outputs and checksums", {"golden": False}),
)
FORMAT_VERSION = MIGRATIONS[-1].to


def migrations_from(version: int) -> tuple[Migration, ...]:
    """The steps from a format version to today's, in order."""
    return tuple(step for step in MIGRATIONS if step.to > version)


def migrate(config: dict[str, Any], version: int, where: str) -> None:
    """Bring a parsed `config.json` of an older format to the fields of today, in place; its `format_version` stays.

    Raises:
        CheckpointError: for a field that its format does not have yet.
    """
    for step in migrations_from(version):
        for field, value in step.added.items():
            _add(config, field, value, f"{where}: {field}: not part of format_version {version}")


def _add(config: dict[str, Any], field: str, value: Any, present: str) -> None:
    """Add a field; where its object is not as expected, decoding says so later."""
    *parents, name = field.split(".")
    inner: Any = config
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        if name in inner:
            raise CheckpointError(present)
        inner[name] = copy.deepcopy(value)
