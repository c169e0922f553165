"""The worlds by name, as `env:NAME` and protocols say them."""

from typing import Any

from jepa_actions.envs.world import World
from jepa_actions.errors import ConfigError

WORLDS = ("two_room", "point_maze", "reacher", "push_t")


def make_world(name: str, **settings: Any) -> World:
    """A world. `settings` are arguments of its class.

    Raises:
        ConfigError: for a name that is not known, or a simulator that is not installed (naming the extra).
    """
    match name:
        case "two_room":
            from jepa_actions.envs.two_room_world import TwoRoomWorld

            return TwoRoomWorld(**settings)
        case "point_maze":
            from jepa_actions.envs.point_maze import PointMaze

            return PointMaze(**settings)
        case "reacher":
            from jepa_actions.envs.reacher import Reacher

            return Reacher(**settings)
        case "push_t":
            from jepa_actions.envs.push_t import PushT

            return PushT(**settings)
    raise ConfigError(f"world: found {name!r}, expected one of {', '.join(WORLDS)}")
