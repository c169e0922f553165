"""Plan between two pictures of one's own: the next actions in raw units."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.data import ActionBounds, ActionCodec, ModelBounds
from jepa_actions.errors import DataError, PlanningError, ShapeError
from jepa_actions.evaluation.control import Control, make_cost
from jepa_actions.models import WorldModel
from jepa_actions.planning import Bounded, CEMConfig, Cost, LatentCost, PlannerPreset, Problem, deadline_in


@torch.no_grad()
def plan(
    model: WorldModel,
    frame: UInt8[Tensor, "c h w"] | dict[str, UInt8[Tensor, "c h w"]],
    goal: UInt8[Tensor, "c h w"] | dict[str, UInt8[Tensor, "c h w"]],
    *,
    horizon: int | None = None,
    planner: CEMConfig | PlannerPreset | None = None,
    proprio: Sequence[float] | None = None,
    seed: int = 0,
    timeout_ms: float | None = None,
) -> dict[str, Any]:
    """The actions that the model believes lead from one picture to another.

    Args:
        model: with an action codec.
        frame, goal: uint8 RGB pictures of the model's size; one per camera, by name, where it has several.
        horizon: model steps; the preset's, or 5, when None.
        planner: budget of CEM, whose cost is the temporal distance where the model has one and latent L2 elsewhere;
            or a published planner with its cost, horizon and bounds (`planning.presets`).
        proprio: at the present, in raw units; for a model whose dynamics reads it.
        seed: the same seed gives the same plan.
        timeout_ms: real time for the search, encoding apart; the plan is then the best so far.

    Returns:
        `names`, `actions` (raw units, one row per raw step), the model's `cost`, and the cost of not acting; where
        actions are changes seen from a `proprio` that is given, also `commands`, the absolute values they lead to;
        with a timeout, `timed_out`. Where that left no time for one iteration, the actions are the mean ones of the
        data and `cost` is None.

    Raises:
        ShapeError: for pictures of another size, a model without actions, or proprio that does not fit.
        PlanningError: for a preset whose bounds are for other actions, or a timeout that is negative or not a number.
    """
    codec = model.codec
    if codec is None:
        raise ShapeError("this model has no action codec: it was trained on video without actions")
    now, target = (_named(model, picture) for picture in (frame, goal))
    published = isinstance(planner, PlannerPreset)
    preset = (
        planner if isinstance(planner, PlannerPreset) else PlannerPreset(planner or CEMConfig(), LatentCost(), 5, 1)
    )
    horizon = preset.horizon if horizon is None else horizon
    pictures = {camera: image[None, None] for camera, image in now.items()}
    reading = () if proprio is None else (torch.tensor([[list(proprio)]], dtype=torch.float32),)
    context = model.encode(pictures, *reading)
    cost: Cost = preset.cost if published else make_cost(Control().resolved(model), model)
    latent_goal = model.goal({camera: image[None] for camera, image in target.items()})
    bounded = Bounded(model, _bounds(codec, preset))
    deadline = deadline_in(timeout_ms)
    found = preset.build()(Problem(bounded, context, latent_goal, cost, horizon, [seed], deadline=deadline))
    still = codec.encode(codec.still()).expand(1, 1, horizon, -1)
    idle = cost(model.rollout(context, still), latent_goal)
    plan: dict[str, Any] = {
        "names": list(codec.names),
        "actions": codec.decode(found.actions)[0].flatten(0, 1).tolist(),
        "cost": None if found.unsearched else float(found.cost[0]),
        "cost_of_zero_actions": float(idle[0, 0]),
    }
    if timeout_ms is not None:
        plan["timed_out"] = found.timed_out
    if reading and codec.source != "action":
        plan["commands"] = _commands(codec, reading[0][0, -1], found.actions[0])
    return plan


def _commands(codec: ActionCodec, proprio: Float[Tensor, "p"], actions: Float[Tensor, "h a"]) -> list[list[float]]:
    """What the planned changes lead to from the present proprio: the source's columns, one row per raw step."""
    rows: list[list[float]] = []
    for action in actions:
        rows += codec.path(proprio, action).tolist()
        proprio = codec.integrate(proprio, action)
    return rows


def _bounds(codec: ActionCodec, preset: PlannerPreset) -> ModelBounds:
    if preset.low is None or preset.high is None:
        return codec.model_bounds
    if len(preset.low) != len(codec.names):
        raise PlanningError(
            f"planner: its bounds are for {len(preset.low)} raw dimensions, found the model's {len(codec.names)}: "
            f"{', '.join(codec.names)}"
        )
    return replace(codec, bounds=ActionBounds("box", low=preset.low, high=preset.high)).model_bounds


def _named(model: WorldModel, picture: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    cameras = model.config.cameras
    if isinstance(picture, dict):
        return picture
    if len(cameras) != 1:
        raise ShapeError(f"pictures: this model has cameras {', '.join(cameras)}; pass a dict of them")
    return {cameras[0]: picture}


def read_pictures(model: WorldModel, files: Sequence[str]) -> dict[str, UInt8[Tensor, "c h w"]]:
    """One RGB picture per camera of the model, uint8, exactly of the model's size; of any size for a backbone."""
    from PIL import Image

    cameras = model.config.cameras
    named: dict[str, str] = {}
    for item in files:
        camera, _, file = item.rpartition("=") if not Path(item).exists() else (cameras[0], "", item)
        camera = camera or cameras[0]
        if camera in named:
            raise ShapeError(f"pictures: camera {camera!r} is given twice, {named[camera]} and {file}")
        named[camera] = file
    if set(named) != set(cameras):
        raise ShapeError(f"pictures: expected one for each camera ({', '.join(cameras)}), found {', '.join(named)}")
    height, width = model.config.image_size
    found = {}
    for camera, file in named.items():
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
            raise DataError(f"{file}: not a picture that can be read ({error})") from error
        if model.config.backbone is None and pixels.shape[:2] != (height, width):
            raise ShapeError(f"{file}: expected {height}x{width} pixels, found {pixels.shape[0]}x{pixels.shape[1]}")
        found[camera] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    return found
