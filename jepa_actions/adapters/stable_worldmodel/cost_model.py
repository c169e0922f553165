"""A world model with a cost as what stable-worldmodel's solvers optimise: `get_cost(info, candidates) -> costs`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jepa_actions.adapters.stable_worldmodel.pictures import PLACE, Pictures
from jepa_actions.data import ActionCodec
from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.evaluation.control import Control, make_cost
from jepa_actions.planning import Cost

Units = Literal["raw", "model"]


@dataclass(frozen=True, eq=False)
class ActionUnits:
    """What a solver's numbers are, between its candidates and the environment: `WorldModelPolicy(process=...)`.

    `raw`: the environment's own units. A solver's spread (`var_scale`) then counts in them, and `ICEMSolver`, which
    cuts candidates to the environment's box, cuts what it means to. `model`: normalised, as the model has them.
    """

    codec: ActionCodec
    units: Units = "raw"

    def candidates(self, actions: Float[Tensor, "*n ba"]) -> Float[Tensor, "*n ba"]:
        """A solver's blocks as model actions inside the bounds.

        Raises ShapeError for blocks of another length: `PlanConfig.action_block` times the environment's dimensions.
        """
        codec = self.codec
        if actions.shape[-1] != (width := codec.block * len(codec.names)):
            raise ShapeError(
                f"solver candidates: found {actions.shape[-1]} numbers per step, expected {width}: "
                f"PlanConfig(action_block={codec.block}), the model's, times {len(codec.names)} action dimensions"
            )
        if self.units == "raw":
            actions = codec.encode(actions.unflatten(-1, (codec.block, len(codec.names))))
        return codec.model_bounds.project(actions)

    def transform(self, raw: np.ndarray) -> np.ndarray:
        """Raw actions in a solver's units, (..., A)."""
        if self.units == "raw":
            return raw
        numbers: np.ndarray = (raw - self.codec.mean) / self.codec.std
        return numbers

    def inverse_transform(self, numbers: np.ndarray) -> np.ndarray:
        """The raw actions of a solver's numbers, (..., A), inside the bounds that the candidates were kept in."""
        raw = torch.as_tensor(numbers, dtype=torch.float32)
        if self.units == "model":
            raw = raw * torch.from_numpy(self.codec.std) + torch.from_numpy(self.codec.mean)
        return self.codec.bounds.project(raw).numpy()


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What no candidate changes, with the pictures that it was made from."""

    pixels: Any
    goal: Any
    inference: bool
    context: Any
    target: Any


class CostModel(nn.Module):
    """A model and a cost behind stable-worldmodel's `Costable` protocol, for its CEM, iCEM, MPPI and gradient solvers.

        model = WorldModel.from_pretrained("checkpoints/two_room")
        cost = CostModel(model)
        config = PlanConfig(horizon=5, receding_horizon=1, action_block=model.codec.block)
        policy = WorldModelPolicy(CEMSolver(cost), config, process=cost.process)

    Present and goal are encoded once per solve, whatever the solver's iterations. Candidates are projected into the
    model's action bounds before they are imagined; `process` does the same to what is executed.

    Arguments:
        model: with one camera and continuous actions.
        cost: a planning cost; or a `Control`, of which the cost alone is taken: the model's own default when None.
        units: see `ActionUnits`.
        history: frames that `info["pixels"]` has, a model step apart; the model's own number when None. `World` shows
            one. 1 for a model that wants more means: as at the beginning of an episode, for it stands still.

    Raises: ConfigError for a model without actions, with discrete ones or several cameras, or for other units.
    """

    def __init__(
        self,
        model: Any,
        cost: Cost | Control | None = None,
        *,
        units: Units = "raw",
        history: int | None = None,
    ) -> None:
        super().__init__()
        if units not in ("raw", "model"):
            raise ConfigError(f"CostModel.units: found {units!r}, expected 'raw' or 'model'")
        self.model, self.codec = model, continuous_codec(model)
        self.units = ActionUnits(self.codec, units)
        control = cost or Control()
        self.cost: Cost = make_cost(control, model) if isinstance(control, Control) else control
        self.pictures, self.history = Pictures(model), model.history if history is None else history
        self._prepared: _Prepared | None = None

    @property
    def process(self) -> dict[str, ActionUnits]:
        """For `WorldModelPolicy(process=...)`."""
        return {"action": self.units}

    def get_cost(self, info: Mapping[str, Any], candidates: Float[Tensor, "b s h ba"]) -> Float[Tensor, "b s"]:
        """Cost of every candidate, differentiable by it.

        Raises: ShapeError for pictures or candidates that do not fit the model.
        """
        actions = self.units.candidates(candidates)
        prepared = self._prepare(info)
        return self.cost(self.model.rollout(prepared.context, actions), prepared.target)

    def criterion(self, info: Mapping[str, Any], candidates: Float[Tensor, "b s h ba"]) -> Float[Tensor, "b s"]:
        """As `get_cost`: the cost needs the rollout."""
        return self.get_cost(info, candidates)

    @torch.no_grad()
    def _prepare(self, info: Mapping[str, Any]) -> _Prepared:
        kept, inference = self._prepared, torch.is_inference_mode_enabled()
        same = kept is not None and kept.pixels is info.get("pixels") and kept.goal is info.get("goal")
        if kept is not None and same and kept.inference == inference:
            return kept
        frames = self.pictures.read(info, "pixels", samples=True)
        target = self.pictures.read(info, "goal", samples=True)[:, -1]
        context = self.model.encode(frames, past_actions=self._past(info, frames.shape[1]))
        self._prepared = _Prepared(info["pixels"], info["goal"], inference, context, self.model.goal(target))
        return self._prepared

    def _past(self, info: Mapping[str, Any], frames: int) -> Tensor | None:
        """Model actions between the frames."""
        if frames != self.history:
            raise ShapeError(
                f"{PLACE} 'pixels': found {frames} frames, expected {self.history} (CostModel.history): World shows "
                "one, and ControlPolicy remembers by itself"
            )
        if frames == 1:
            return None
        if "past_actions" not in info:
            raise ShapeError(
                f"{PLACE}: found {frames} frames and no 'past_actions', expected (batch, {frames - 1}, "
                f"{self.codec.action_dim}) model actions between them"
            )
        past: Tensor = torch.as_tensor(info["past_actions"])[:, 0]
        return past


def continuous_codec(model: Any) -> ActionCodec:
    """A model's action codec. Raises ConfigError where it has none, or discrete dimensions."""
    codec: ActionCodec | None = model.codec
    if codec is None or any(codec.classes) or codec.source != "action":
        found = (
            "no actions"
            if codec is None
            else f"source {codec.source} and classes {codec.classes or 'none'} of {', '.join(codec.names)}"
        )
        raise ConfigError(f"stable-worldmodel: found a model with {found}, expected continuous recorded actions")
    return codec
