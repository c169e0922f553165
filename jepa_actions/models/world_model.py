"""One encoder, and on its latents a masked predictor, forward dynamics and an inverse head: the model that is saved."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from jepa_actions.data import ActionCodec, ModelBounds
from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.models.backbone import FrameBackbone
from jepa_actions.models.distance import TemporalDistance
from jepa_actions.models.dynamics import make_dynamics
from jepa_actions.models.encoder import VideoEncoder
from jepa_actions.models.features import FeatureHead
from jepa_actions.models.inverse import InverseHead
from jepa_actions.models.latent_dynamics import LatentDynamics
from jepa_actions.models.masked_predictor import MaskedPredictor
from jepa_actions.models.rollout_cache import Cache
from jepa_actions.models.subgoal import SubgoalHead
from jepa_actions.models.world_model_config import RolloutConfig, WorldModelConfig
from jepa_actions.nn import (
    AttentivePooler,
    Distribution,
    FlattenReadout,
    PatchReadout,
    set_attention_backend,
)


@dataclass
class Context:
    """Where planning starts: the present latent state and what the dynamics keeps of the past. Opaque to planners."""

    z: Float[Tensor, "p n d"]
    cache: Cache
    before: Float[Tensor, "p n d"] | None = None  # one model step before z, where it was seen
    proprio: Float[Tensor, "p r"] | None = None  # at the present frame, raw units; where the dynamics reads it


@dataclass
class Goal:
    """Where planning should end: the latent state of a goal image."""

    z: Float[Tensor, "p n d"]


@dataclass
class Rollout:
    """Imagined states: `z[:, :, i]` follows the i-th action of every candidate, the first of them from `start`."""

    z: Float[Tensor, "p s h n d"]
    start: Float[Tensor, "p n d"] | None = None
    actions: Float[Tensor, "p s h a"] | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)


class WorldModel(nn.Module):
    """The shared encoder with its predictors, the action codec and the image transform.

    A model without a codec (pretrained on video alone) has no dynamics and no inverse head; one with a frozen backbone
    as its encoder has no masked predictor. `config` is the given one, resolved.

    Args:
        config: form and size.
        codec: from the data.
        backbone: one already at hand, in place of making `config.backbone` and reading its weights.
    """

    def __init__(
        self, config: WorldModelConfig, codec: ActionCodec | None = None, *, backbone: FrameBackbone | None = None
    ) -> None:
        super().__init__()
        config = config.resolved()
        self.config, self.codec = config, codec
        self.extra: dict[str, Any] = {}  # facts that travel with the weights: recipe, scores
        pooler = config.pooler
        self.encoder: VideoEncoder | FrameBackbone
        self.predictor: MaskedPredictor | None = None
        if config.backbone is None:
            self.encoder = VideoEncoder(config.encoder)
            self.predictor = MaskedPredictor(config.predictor, config.encoder)
            width, self.grid = config.encoder.width, config.encoder.grid
        else:
            self.encoder = backbone or FrameBackbone(config.backbone)
            width, self.grid = self.encoder.width, self.encoder.grid
        per_camera = self.grid[0] * self.grid[1]
        places = per_camera * len(config.cameras)
        if pooler.kind == "patches":
            self.pooler: nn.Module = PatchReadout(width, pooler.dim, normalise=pooler.normalise)
        elif pooler.kind == "flatten":
            self.pooler = FlattenReadout(width, per_camera, pooler.dim, pooler.hidden)
            per_camera = 1
        else:
            self.pooler = AttentivePooler(width, pooler.dim, pooler.latents, pooler.heads, self.grid)
            per_camera = pooler.latents
        self.latents = per_camera * len(config.cameras)
        self.dim = pooler.dim
        self.dynamics: LatentDynamics | None = None
        self.inverse: InverseHead | None = None
        if codec is not None:
            if config.dynamics.extrinsics:
                raise ConfigError(
                    f"dynamics.extrinsics {config.dynamics.extrinsics}: a world model is not told the camera's pose, "
                    "expected 0 (make_dynamics by itself takes it)"
                )
            self.dynamics = make_dynamics(
                config.dynamics,
                self.latents,
                self.dim,
                codec.action_dim,
                grid=self.grid if pooler.kind == "patches" else None,
                cameras=len(config.cameras),
            )
            self.inverse = InverseHead(
                config.inverse, self.latents, self.dim, codec, grid=self.grid, cameras=len(config.cameras)
            )
            self.dynamics.compile_rollouts(config.rollout.compile)
        self._build_goal_heads()
        self.features: FeatureHead | None = None
        if config.features is not None:
            self.features = FeatureHead(config.features, self.latents, self.dim, places, width)
        set_attention_backend(self, config.attention)

    def _build_goal_heads(self) -> None:
        config, codec = self.config, self.codec
        self.distance: TemporalDistance | None = None
        self.goal_inverse: InverseHead | None = None
        self.subgoal: SubgoalHead | None = None
        if config.subgoal is not None:
            self.subgoal = SubgoalHead(config.subgoal, self.latents, self.dim)
        if config.distance is not None:
            self.distance = TemporalDistance(config.distance, self.latents, self.dim)
        if config.goal_inverse is not None:
            if codec is None or config.goal_inverse.kind != "mlp":
                raise ConfigError(
                    f"model.goal_inverse: found kind {config.goal_inverse.kind} and "
                    f"{'no ' if codec is None else ''}actions, expected kind mlp and data with actions"
                )
            self.goal_inverse = InverseHead(config.goal_inverse, self.latents, self.dim, codec)

    # -- encoding ------------------------------------------------------------------------------------------------

    def images(self, frames: dict[str, Tensor], name: str = "frames") -> dict[str, Float[Tensor, "b t c h w"]]:
        """Check and normalise uint8 frames of every camera; a frozen backbone's are resized to its size.

        Args:
            frames: by camera.
            name: what an error calls them.

        Raises:
            ShapeError: if a camera is missing, or frames are not uint8 `(b, t, 3, height, width)` of the model's size
                (of any size, with a backbone).
        """
        out = {}
        for camera in self.config.cameras:
            if camera not in frames:
                raise ShapeError(
                    f"{name}: camera {camera!r} is missing, found {', '.join(map(repr, frames)) or 'none'}"
                )
            image = frames[camera]
            backbone = self.encoder if isinstance(self.encoder, FrameBackbone) else None
            height, width = image.shape[-2:] if backbone else self.config.encoder.image_size
            if image.dtype != torch.uint8 or image.dim() != 5 or tuple(image.shape[2:]) != (3, height, width):
                raise ShapeError(
                    f"{name}[{camera!r}]: expected uint8 (batch, time, 3, {height}, {width}), found "
                    f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
                )
            out[camera] = self.config.image(image if backbone is None else backbone.resize(image))
        return out

    def latents_of(self, images: dict[str, Float[Tensor, "b t c h w"]]) -> Float[Tensor, "b t n d"]:
        """The control pass on normalised images: each frame encoded alone and pooled; cameras side by side in N."""
        return self.pooled(self.tokens_of(images))

    def tokens_of(self, images: dict[str, Float[Tensor, "b t c h w"]]) -> dict[str, Float[Tensor, "b t p d"]]:
        """The encoder's tokens of normalised images, each frame alone, per camera."""
        return {camera: self.encoder.encode_each(images[camera]) for camera in self.config.cameras}

    def pooled(
        self, tokens: dict[str, Float[Tensor, "b t p d"]], pooler: nn.Module | None = None
    ) -> Float[Tensor, "b t n d"]:
        """Latent states from tokens, by this model's pooler or another of its form; cameras side by side in N."""
        pooler = self.pooler if pooler is None else pooler
        frames = [tokens[camera] for camera in self.config.cameras]
        return torch.cat([pooler(t.flatten(0, 1)).unflatten(0, t.shape[:2]) for t in frames], dim=2)

    def encode_frames(self, frames: dict[str, UInt8[Tensor, "b t c h w"]]) -> Float[Tensor, "b t n d"]:
        """uint8 frames -> latent states, each frame alone: changing a later frame leaves earlier states unchanged."""
        return self.latents_of(self.images(frames))

    def masked_parts(self) -> tuple[VideoEncoder, MaskedPredictor]:
        """Encoder and predictor of masked prediction.

        Raises:
            ConfigError: for a model whose encoder is a frozen backbone, which sees no masks.
        """
        if self.predictor is None or isinstance(self.encoder, FrameBackbone):
            raise ConfigError(
                "masked prediction needs an encoder of video (model.encoder): this model has no masked predictor, its "
                f"frames are encoded by a frozen backbone ({self.config.backbone.name if self.config.backbone else ''})"
            )
        return self.encoder, self.predictor

    # -- the planning protocol ----------------------------------------------------------------------------------

    def encode(
        self,
        frames: UInt8[Tensor, "p t c h w"] | dict[str, UInt8[Tensor, "p t c h w"]],
        proprio: Float[Tensor, "p t r"] | None = None,
        past_actions: Float[Tensor, "p t-1 a"] | None = None,
    ) -> Context:
        """What planning starts from: the last frames seen (at least one) and the model actions taken between them.

        Args:
            frames: uint8, a model step apart.
            proprio: at these frames, in raw units; a model whose dynamics reads none looks at none.
            past_actions: model actions between the frames.

        Raises:
            ShapeError: for wrong frames, past actions that do not fit between them, or proprio that is missing or of
                another width than the dynamics reads.
        """
        z = self.encode_frames(self._by_camera(frames))
        expected = (z.shape[0], z.shape[1] - 1, self.action_dim)
        if past_actions is None:
            past_actions = z.new_zeros(z.shape[0], 0, self.action_dim)
        if tuple(past_actions.shape) != expected:
            raise ShapeError(
                f"past_actions: {z.shape[1]} frames have {z.shape[1] - 1} actions between them: expected {expected}, "
                f"found {tuple(past_actions.shape)}"
            )
        return self.context(z, past_actions, proprio)

    def context(
        self,
        z: Float[Tensor, "p t n d"],
        past_actions: Float[Tensor, "p t-1 a"],
        proprio: Float[Tensor, "p t r"] | None = None,
    ) -> Context:
        """As `encode`, from states that are encoded already. Raises ShapeError for proprio that does not fit."""
        before = z[:, -2] if z.shape[1] > 1 else None
        if not self.config.dynamics.proprio:
            with self._precision(z.device):
                return Context(z[:, -1], self._dynamics().start(z[:, :-1], past_actions), before)
        wanted = (*z.shape[:2], self.config.dynamics.proprio)
        if proprio is None or tuple(proprio.shape) != wanted:
            found = "none" if proprio is None else tuple(proprio.shape)
            raise ShapeError(f"proprio: expected {wanted}, the proprio of every frame, found {found}")
        proprio = proprio.to(z)
        with self._precision(z.device):
            cache = self._dynamics().start(z[:, :-1], past_actions, proprio[:, :-1])
        return Context(z[:, -1], cache, before, proprio[:, -1])

    def goal(self, frames: UInt8[Tensor, "p c h w"] | dict[str, UInt8[Tensor, "p c h w"]]) -> Goal:
        """The latent goal of one image per problem. Raises ShapeError for one of another camera or size."""
        by_camera = {camera: image[:, None] for camera, image in self._by_camera(frames).items()}
        return Goal(self.latents_of(self.images(by_camera, "goal"))[:, 0])

    def rollout(
        self, context: Context, actions: Float[Tensor, "p s h a"], generator: torch.Generator | None = None
    ) -> Rollout:
        """Imagine every candidate action sequence from its problem's context; past frames are encoded once for all.

        Proprio, where the dynamics reads it, is integrated by the codec (`ActionCodec.integrate`): for changes of
        proprio their sum, for recorded commands what it was at the start.

        Raises:
            ShapeError: for actions that are not `(p, s, h, a)` with the context's problems and the codec's width.
        """
        if actions.dim() != 4 or (actions.shape[0], actions.shape[3]) != (context.z.shape[0], self.action_dim):
            raise ShapeError(
                f"actions: expected ({context.z.shape[0]} problems, candidates, horizon, {self.action_dim}), "
                f"found {tuple(actions.shape)}"
            )
        proprio = None
        if context.proprio is not None:
            proprio = self.proprio_path(context.proprio[:, None].expand(-1, actions.shape[1], -1), actions)
        with self._precision(actions.device):
            states = self._dynamics().imagine(context.z, actions, context.cache, proprio)
        return Rollout(states.to(context.z.dtype), context.z, actions)

    def branch(self, context: Context, count: int) -> Context:
        """Of every problem's context so many, side by side, that go their own ways from here (`advance`)."""
        z, cache = context.z.repeat_interleave(count, dim=0), context.cache.repeated(count)
        others = (x if x is None else x.repeat_interleave(count, dim=0) for x in (context.before, context.proprio))
        return Context(z, cache, *others)

    def advance(self, context: Context, action: Float[Tensor, "p a"]) -> Context:
        """The context one imagined model step later: a rollout in single steps, for who decides on the way.

        Raises: ShapeError for actions that are not `(p, a)`.
        """
        with self._precision(action.device):
            z, cache = self._dynamics().step(context.z, action, context.cache, context.proprio)
        proprio = None if context.proprio is None else self._codec().integrate(context.proprio, action)
        return Context(z.to(context.z.dtype), cache, context.z, proprio)

    def proprio_path(self, proprio: Float[Tensor, "*b r"], actions: Float[Tensor, "*b h a"]) -> Float[Tensor, "*b h r"]:
        """Proprio at the frames that h model actions are taken at, from that of the first, by the codec."""
        path = [proprio]
        for action in actions.unbind(-2)[:-1]:
            path.append(self._codec().integrate(path[-1], action))
        return torch.stack(path, dim=-2)

    def infer_actions(self, z: Float[Tensor, "p n d"], z_goal: Float[Tensor, "p n d"], k: int) -> Distribution:
        """The inverse head's belief about the model action taken at z on a way of k steps to z_goal.

        Raises:
            ShapeError: for a k that the head was not made for, or a model without an inverse head.
        """
        if self.inverse is None:
            raise ShapeError("this model has no inverse head: it was trained on video without actions")
        if not 1 <= k <= self.config.inverse.max_gap:
            raise ShapeError(
                f"infer_actions: expected k from 1 to the head's max_gap, {self.config.inverse.max_gap}, found {k}"
            )
        gap = torch.full((z.shape[0],), k, device=z.device)
        out: Distribution = self.inverse(z, z_goal, gap)
        return out

    def temporal_distance(self, z: Float[Tensor, "*b n d"], z_goal: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b"]:
        """Model steps from z to z_goal, as the model believes. Raises ShapeError where it has not learned it."""
        if self.distance is None:
            raise ShapeError("this model has no temporal distance: train it with objectives.distance")
        out: Tensor = self.distance(z, z_goal)
        return out

    def goal_actions(
        self,
        z: Float[Tensor, "p n d"],
        z_goal: Float[Tensor, "p n d"],
        k: Int[Tensor, "p"] | None = None,
        before: Float[Tensor, "p n d"] | None = None,
    ) -> Distribution:
        """The goal-conditioned inverse head's belief about the model action at z on a way of k steps to z_goal.

        `k` is the temporal distance, rounded up, when None; `before` the state one model step before z.

        Raises:
            ShapeError: for a model without what it needs.
        """
        if self.goal_inverse is None:
            raise ShapeError("this model has no goal-conditioned inverse head: train it with model.goal_inverse")
        if k is None:
            k = self.temporal_distance(z, z_goal).ceil().long()
        out: Distribution = self.goal_inverse(z, z_goal, k.clamp(1, self.goal_inverse.config.max_gap), before)
        return out

    def next_on_the_way(self, z: Float[Tensor, "p n d"], z_goal: Float[Tensor, "p n d"]) -> Float[Tensor, "p n d"]:
        """The latent one model step ahead on a way to z_goal. Raises ShapeError for a model without this head."""
        if self.subgoal is None:
            raise ShapeError("this model imagines no sub-goals: train it with model.subgoal and objectives.subgoal")
        out: Tensor = self.subgoal(z, z_goal)
        return out

    @property
    def history(self) -> int:
        """Frames, a model step apart, that planning starts from; one where the dynamics sets no number."""
        return self.config.dynamics.history or 1

    @property
    def action_dim(self) -> int:
        """Width of a model action: raw action dimensions times block."""
        return self._codec().action_dim

    @property
    def action_bounds(self) -> ModelBounds:
        """The support of the training data in model units; planners stay inside."""
        return self._codec().model_bounds

    # -- saving --------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        card: str | None = None,
        extra: dict[str, Any] | None = None,
        max_shard_size: int | str = "5GB",
        golden: bool = True,
    ) -> None:
        """Write a model folder: configuration, weights, golden outputs, checksums and card.

        The arguments are those of `jepa_actions.models.serialize.save_model`, which also says what is raised.
        """
        from jepa_actions.models.serialize import save_model

        save_model(self, Path(folder), card=card, extra=extra, max_shard_size=max_shard_size, golden=golden)

    def push_to_hub(self, repo_id: str, *, private: bool = False, **saving: Any) -> str:
        """Save and push to the Hub, where the repository is made if need be; `saving` as for `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: where the Hub refuses, or what was saved does not verify.
        """
        from jepa_actions.models.share import share_model

        return share_model(self, repo_id, private=private, **saving)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        revision: str | None = None,
        device: torch.device | str | None = None,
        rollout: RolloutConfig | None = None,
    ) -> "WorldModel":
        """Open a model folder, or a Hub repository by id; strict, and in evaluation mode.

        Args:
            folder: a folder, or a Hub id: `owner/name` or `owner/name@REVISION`.
            revision: branch, tag or commit of a Hub id.
            device: where to put the model.
            rollout: how to imagine plans on this machine; as it was saved when None.
        """
        from jepa_actions.models.serialize import load_model

        model = load_model(folder, revision=revision, rollout=rollout)
        return model if device is None else model.to(device)

    # -- inside --------------------------------------------------------------------------------------------------

    def _by_camera(self, frames: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(frames, dict):
            return frames
        if len(self.config.cameras) != 1:
            raise ShapeError(f"frames: this model has cameras {', '.join(self.config.cameras)}; pass a dict of them")
        return {self.config.cameras[0]: frames}

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """The precision of rollouts: bfloat16 where asked for, and what is set outside otherwise."""
        if self.config.rollout.precision == "bf16":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    def _dynamics(self) -> LatentDynamics:
        if self.dynamics is None:
            raise ShapeError("this model has no dynamics: it was trained on video without actions")
        return self.dynamics

    def _codec(self) -> ActionCodec:
        if self.codec is None:
            raise ShapeError("this model has no action codec: it was trained on video without actions")
        return self.codec
