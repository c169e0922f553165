"""Model folders that are right, each in its own way: all must open, and answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.model_base import CARD, Case, codec, config_of, world
from fuzz.model_links import snapshot

from jepa_actions.data import ActionBounds
from jepa_actions.models import (
    BackboneConfig,
    DistanceConfig,
    DynamicsConfig,
    EncoderConfig,
    FeaturesConfig,
    ImageTransform,
    InverseConfig,
    MotionConfig,
    PoolerConfig,
    PredictorConfig,
    RolloutConfig,
    SubgoalConfig,
)
from jepa_actions.models.migrations import MIGRATIONS

FORMS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "categorical": {"inverse": InverseConfig(width=24, distribution="categorical", bins=5)},
    "two cameras": {"cameras": ("front", "wrist")},
    "image transform": {"image": ImageTransform(mean=(0.0, 0.1, 0.2), std=(0.3, 0.4, 0.5))},
    "transformer": {"dynamics": DynamicsConfig(kind="transformer", width=24, depth=2, heads=2, history=2)},
    "adaln": {"dynamics": DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, conditioning="adaln")},
    "proprio": {"dynamics": DynamicsConfig(kind="transformer", width=24, depth=1, heads=2, proprio=3)},
    "ac": {
        "pooler": PoolerConfig(kind="patches", dim=24, normalise=True),
        "dynamics": DynamicsConfig(kind="ac", width=24, depth=1, heads=2, normalise=True),
    },
    "history": {"dynamics": DynamicsConfig(width=24, depth=2, history=3)},
    "patches": {"pooler": PoolerConfig(kind="patches", dim=24)},
    "projected patches": {"pooler": PoolerConfig(kind="patches", dim=12)},
    "flatten": {"pooler": PoolerConfig(kind="flatten", dim=16, hidden=32)},
    "four latents": {"pooler": PoolerConfig(dim=16, heads=2, latents=4)},
    "motion": {
        "pooler": PoolerConfig(kind="patches", dim=24),
        "inverse": InverseConfig(kind="motion", motion=MotionConfig(radius=1, pool=(2, 2))),
    },
    "goals": {
        "distance": DistanceConfig(width=24, depth=1),
        "goal_inverse": InverseConfig(width=24, max_gap=6, history=2),
        "dynamics": DynamicsConfig(width=24, depth=1, history=2),
    },
    "fourier": {"distance": DistanceConfig(width=24, depth=2, fourier=16)},
    "subgoal": {"subgoal": SubgoalConfig(width=24)},
    "features": {"features": FeaturesConfig(width=24, rank=4)},
    "tubelet": {"encoder": EncoderConfig(image_size=(16, 16), patch=4, tubelet=2, width=24, depth=1, heads=2)},
    "oblong": {"encoder": EncoderConfig(image_size=(16, 32), patch=4, width=24, depth=1, heads=2)},
    "large pictures": {"encoder": EncoderConfig(image_size=(256, 256), patch=16, width=24, depth=1, heads=2)},
    "deep": {"encoder": EncoderConfig(image_size=(16, 16), patch=4, width=24, depth=12, heads=2)},
    "wide": {"encoder": EncoderConfig(image_size=(16, 16), patch=4, width=384, depth=2, heads=6)},
    "no transformer in the predictor": {"predictor": PredictorConfig(width=24, depth=0, heads=2, residual=True)},
    "bf16 rollouts": {"rollout": RolloutConfig(precision="bf16")},
    "naive attention": {"attention": "naive"},
    "a backbone": {"backbone": BackboneConfig("timm:vit_tiny_patch16_224", weights="random", image_size=(32, 32))},
    "a backbone, pooled": {
        "backbone": BackboneConfig("timm:vit_tiny_patch16_224", weights="random", tokens="pooled", image_size=(32, 32)),
        "pooler": PoolerConfig(kind="patches", dim=192),
    },
}
CODECS: dict[str, dict[str, Any]] = {
    "ball": {"bounds": ActionBounds("ball", radius=2.0)},
    "block of five": {"block": 5},
    "differences of proprio": {"source": "proprio_difference", "columns": (3, 0)},
    "an angle": {"source": "proprio_difference", "angles": (1,)},
    "relative commands": {"source": "action_minus_proprio", "absolute": (1,)},
    "a lag": {"lag": -2},
    "classes": {"classes": (0, 4), "bounds": ActionBounds("box", low=(-3.0, 0.0), high=(3.0, 3.0))},
    "quantiles": {"normalise": ("quantile", "zscore")},
    "wide statistics": {"mean": np.array([1e6, -1e-6], np.float32), "std": np.array([1e5, 1e-5], np.float32)},
}


def _saved(workspace: Path, model: Any, **saving: Any) -> Path:
    (workspace / "outside").mkdir(exist_ok=True)
    model.save_pretrained(workspace / "model", **saving)
    return workspace / "model"


def _older(version: int) -> Callable[[Path], Path]:
    """As the release of this format version wrote it."""

    def make(workspace: Path) -> Path:
        folder = _saved(workspace, world(codec()))
        config = config_of(folder)
        for step in MIGRATIONS:
            for field in step.added if step.to > version else ():
                *parents, name = field.split(".")
                inner = config
                for parent in parents:
                    inner = inner[parent]
                del inner[name]
        config["format_version"] = version
        (folder / "config.json").write_text(json.dumps(config))
        for name in ("golden.safetensors", "checksums.json"):
            (folder / name).unlink()
        return folder

    return make


def _plain(change: Callable[[Path], Path | None]) -> Callable[[Path], Path]:
    def make(workspace: Path) -> Path:
        folder = _saved(workspace, world(codec()), card=CARD)
        return change(folder) or folder

    return make


def _link_inside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / ".weights")
    (folder / "model.safetensors").symlink_to(".weights")


def _through_a_link(folder: Path) -> Path:
    folder.with_name("latest").symlink_to("model")
    return folder.with_name("latest")


def _pickle_beside(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "events.log").write_text("x")


def _renamed(folder: Path) -> Path:
    moved = folder.with_name("models--a--b ü 模型 @v1")
    shutil.move(folder, moved)
    return moved


def valid() -> list[Case]:
    """All of them."""
    cases = [Case("form", name, lambda w, c=changes: _saved(w, world(codec(), **c))) for name, changes in FORMS.items()]  # type: ignore[misc]
    cases += [
        Case("codec", name, lambda w, c=changes: _saved(w, world(codec(**c))))  # type: ignore[misc]
        for name, changes in CODECS.items()
    ]
    cases += [
        Case("codec", "none", lambda w: _saved(w, world(None))),
        Case("shards", "many", lambda w: _saved(w, world(codec()), max_shard_size=10_000)),
        Case("shards", "one a tensor", lambda w: _saved(w, world(codec()), max_shard_size=1)),
        Case("folder", "without golden outputs", lambda w: _saved(w, world(codec()), golden=False)),
        Case(
            "folder", "much beside the model", lambda w: _saved(w, world(codec()), extra={"rows": list(range(200_000))})
        ),
        Case("folder", "without a card", lambda w: _saved(w, world(codec()))),
        Case("folder", "a card without front matter", lambda w: _saved(w, world(codec()), card="# Only text\n---\n")),
        Case("folder", "a snapshot of the Hub", _plain(snapshot)),
        Case("folder", "a link inside it", _plain(_link_inside)),
        Case("folder", "reached through a link", _plain(_through_a_link)),
        Case("folder", "with a pickle beside, which nobody opens", _plain(_pickle_beside)),
        Case("folder", "of another name", _plain(_renamed)),
        *(Case("format", str(version), _older(version)) for version in range(1, 6)),
    ]
    return cases
