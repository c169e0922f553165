"""Environments that are batched in torch, on any device, and their gymnasium adapters.

Importing the room registers `jepa_actions/TwoRoom-v0` where gymnasium is installed; nothing else in it needs gymnasium.
"""

from importlib.util import find_spec

from jepa_actions.envs.behaviour import TwoRoomEpisodes, generate_episodes
from jepa_actions.envs.two_room import (
    Distractors,
    LayoutSplit,
    TwoRoom,
    TwoRoomConfig,
    TwoRoomState,
    is_free,
    is_heldout,
    is_success,
    layout_table,
    move,
    render,
    same_room,
    sample_layouts,
    sample_positions,
)

__all__ = [
    "Distractors",
    "LayoutSplit",
    "TwoRoom",
    "TwoRoomConfig",
    "TwoRoomEpisodes",
    "TwoRoomState",
    "generate_episodes",
    "is_free",
    "is_heldout",
    "is_success",
    "layout_table",
    "move",
    "render",
    "same_room",
    "sample_layouts",
    "sample_positions",
]

if find_spec("gymnasium") is not None:
    from jepa_actions.envs.gym_adapter import register

    register()
