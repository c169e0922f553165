"""Action-conditioned prediction of the next latent, z_<=t, a_<=t -> z_{t+1}: what every form of it takes and gives."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.errors import ConfigError, ShapeError
from jepa_actions.models.rollout_cache import Cache


class Conditions(NamedTuple):
    """What enters with every frame beside its latents: the action taken at it, proprio and the camera's pose."""

    actions: Tensor
    proprio: Tensor | None = None
    extrinsics: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Conditions":
        """The same change to all that are there."""
        return Conditions(change(self.actions), *(None if x is None else change(x) for x in self[1:]))

    def at(self, frame: int) -> "Conditions":
        """One frame of several, `(b, 1, ...)`."""
        return self.each(lambda x: x[:, frame : frame + 1])


@dataclass(frozen=True)
class DynamicsConfig:
    """Form and size of dynamics (`make_dynamics`).

    `mlp` sees the present state and, with a history, how it came about: the differences from the states before, none
    where an episode begins. `transformer` sees frames of tokens and predicts a change of the present state; `ac` is the
    predictor of V-JEPA 2-AC (arXiv 2506.09985, section 3; `ac_predictor.py` of its code): it sees all frames so far and
    predicts the next state itself.
    """

    kind: Literal["mlp", "transformer", "ac"] = "mlp"
    width: int = 256
    depth: int = 2
    heads: int = 4  # transformer and ac
    # Latent states that a prediction may look at. None: one, and with kind ac all so far. A layer looks so far back, so
    # that several layers reach further in teacher forcing, and as far in a rollout.
    history: int | None = None
    # transformer: how the action enters, as a token of its frame or as shift, scale and gate of every block (AdaLN).
    conditioning: Literal["token", "adaln"] = "token"
    proprio: int = 0  # transformer and ac: numbers of proprio that enter with every frame, in raw units; 0 is none
    extrinsics: int = 0  # transformer and ac: numbers that give the camera's pose, the same way; 0 is none
    normalise: bool = False  # layer norm, without parameters, on every predicted token (V-JEPA 2-AC trains so)
    norm_eps: float = 1e-6  # transformer and ac: of the blocks' and the last layer norm; the release's factory has 1e-6

    def __post_init__(self) -> None:
        if self.kind == "mlp":
            if self.conditioning != "token" or self.proprio or self.extrinsics:
                raise ConfigError(
                    "dynamics.kind mlp takes an action alone: expected conditioning token, proprio 0 and extrinsics 0, "
                    f"found {self.conditioning}, {self.proprio} and {self.extrinsics}"
                )
        elif self.width % self.heads or self.width // self.heads % 2:
            raise ConfigError(
                f"dynamics.width {self.width} and dynamics.heads {self.heads}: expected an even number of channels per "
                "head"
            )
        if self.kind == "ac" and self.conditioning != "token":
            raise ConfigError(
                f"dynamics.kind ac has conditioning token, found {self.conditioning}; kind transformer takes either"
            )
        if min(self.proprio, self.extrinsics) < 0 or (self.history is not None and self.history < 1):
            raise ConfigError(
                f"dynamics: found proprio {self.proprio}, extrinsics {self.extrinsics}, history {self.history}, "
                "expected none below 0 and a history of at least 1"
            )

    @property
    def reach(self) -> int | None:
        """Frames that a layer looks at, the present one included; None is all so far."""
        return 1 if self.history is None and self.kind != "ac" else self.history


class LatentDynamics(nn.Module):
    """Predicts the next latent state from past states and actions; `make_dynamics` makes one.

    `forward` is teacher forcing over a sequence; `step` advances one frame with a cache; a rollout of `step` equals
    repeated single steps by construction, and `forward` on the same latents (tested).

    Args:
        config: form and size.
        latents, dim: N and D of a state.
        action_dim: width of a model action.
    """

    def __init__(self, config: DynamicsConfig, latents: int, dim: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.latents, self.dim, self.action_dim = config, latents, dim, action_dim

    @abstractmethod
    def forward(
        self,
        z: Float[Tensor, "b t n d"],
        actions: Float[Tensor, "b t a"],
        proprio: Float[Tensor, "b t p"] | None = None,
        extrinsics: Float[Tensor, "b t e"] | None = None,
    ) -> Float[Tensor, "b t n d"]:
        """Teacher forcing: out[:, i] predicts the state after actions[:, i] from what is known up to then.

        Args:
            z: latent states.
            actions: the model action taken at each.
            proprio: raw units, at the same frames; where the configuration has it.
            extrinsics: the camera's pose at the same frames; where the configuration has it.

        Raises:
            ShapeError: for an input that is missing, not part of this model, or of another shape.
        """

    @abstractmethod
    def start(
        self,
        z: Float[Tensor, "b t n d"],
        actions: Float[Tensor, "b t a"],
        proprio: Float[Tensor, "b t p"] | None = None,
        extrinsics: Float[Tensor, "b t e"] | None = None,
    ) -> Cache:
        """Take in past states and the actions that followed them (t may be 0); the present state is not among them.

        Arguments and errors as in `forward`.
        """

    @abstractmethod
    def step(
        self,
        z: Float[Tensor, "b n d"],
        action: Float[Tensor, "b a"],
        cache: Cache,
        proprio: Float[Tensor, "b p"] | None = None,
        extrinsics: Float[Tensor, "b e"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Cache]:
        """One frame onward: the state after `action`, and the cache with the present frame added."""

    @abstractmethod
    def imagine(
        self,
        z: Float[Tensor, "p n d"],
        actions: Float[Tensor, "p s h a"],
        cache: Cache | None = None,
        proprio: Float[Tensor, "p s h r"] | None = None,
        extrinsics: Float[Tensor, "p s h e"] | None = None,
    ) -> Float[Tensor, "p s h n d"]:
        """Rollouts of s candidates from each of p present states; out[:, :, i] is the state after actions[:, :, i]."""

    def rollout(
        self,
        z: Float[Tensor, "b n d"],
        actions: Float[Tensor, "b h a"],
        cache: Cache | None = None,
        proprio: Float[Tensor, "b h p"] | None = None,
        extrinsics: Float[Tensor, "b h e"] | None = None,
    ) -> Float[Tensor, "b h n d"]:
        """Imagine h steps from the present state; out[:, i] is the state after actions[:, i].

        `proprio` and `extrinsics` are those of the frames that the actions are taken at, imagined ones included.
        """
        paths = Conditions(actions, proprio, extrinsics).each(lambda x: x[:, None])
        return self.imagine(z, paths.actions, cache, paths.proprio, paths.extrinsics)[:, 0]

    def compile_rollouts(self, on: bool = True) -> None:
        """Have `torch.compile` make what it can of a rollout, where no gradient is recorded."""

    def normalised(self, z: Tensor) -> Tensor:
        """With layer norm, without parameters, where the configuration has it."""
        return F.layer_norm(z, z.shape[-1:]) if self.config.normalise else z

    def checked(self, z: Tensor, given: Conditions) -> Conditions:
        """The conditions; raises ShapeError unless they fit the states and the configuration."""
        if z.dim() != 4 or tuple(z.shape[2:]) != (self.latents, self.dim):
            raise ShapeError(f"dynamics: z: expected (batch, time, {self.latents}, {self.dim}), found {tuple(z.shape)}")
        widths = (self.action_dim, self.config.proprio, self.config.extrinsics)
        for name, width, x in zip(Conditions._fields, widths, given, strict=True):
            expected = (*z.shape[:2], width)
            if (None if x is None else tuple(x.shape)) != (expected if width else None):
                wanted = f"{expected}" if width else f"none (dynamics.{name} is 0)"
                raise ShapeError(
                    f"dynamics: {name}: expected {wanted}, found {'none' if x is None else tuple(x.shape)}"
                )
        return given


def per_candidate(x: Tensor, rows: int) -> Tensor:
    """Rows of problems as rows of their candidates."""
    if len(x) == rows:
        return x
    return x[:, None].expand(-1, rows // len(x), *x.shape[1:]).flatten(0, 1)
