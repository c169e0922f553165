"""Dynamics by configuration."""

from jepa_actions.models.latent_dynamics import DynamicsConfig, LatentDynamics
from jepa_actions.models.mlp_dynamics import MlpDynamics
from jepa_actions.models.transformer_dynamics import TransformerDynamics


def make_dynamics(
    config: DynamicsConfig,
    latents: int,
    dim: int,
    action_dim: int,
    *,
    grid: tuple[int, int] | None = None,
    cameras: int = 1,
) -> LatentDynamics:
    """The dynamics that a configuration is of. For V-JEPA 2-AC:

        config = DynamicsConfig(kind="ac", width=1024, depth=24, heads=16, proprio=7)
        dynamics = make_dynamics(config, latents=256, dim=1408, action_dim=7, grid=(16, 16))
        load_ac_weights(dynamics, state_dict)  # models/pretrained_ac.py
        z_next = dynamics(z, actions, proprio)  # (b, t, 256, 1408), (b, t, 7), (b, t, 7) -> (b, t, 256, 1408)

    with `extrinsics=6` in the configuration and as fourth argument for a model that has them.

    Args:
        config: form and size.
        latents, dim: N and D of a state.
        action_dim: width of a model action.
        grid: rows and columns of the patches of one camera, where latents are patches; an MLP does not look at it.
        cameras: how many such grids lie side by side in N.

    Raises:
        ConfigError: as `TransformerDynamics`.
    """
    if config.kind == "mlp":
        return MlpDynamics(config, latents, dim, action_dim)
    return TransformerDynamics(config, latents, dim, action_dim, grid=grid, cameras=cameras)
