"""Registers jepa_actions with LeRobot, which imports every installed `lerobot_policy_*` package."""

from jepa_actions.adapters.lerobot.configuration_jepa_actions import JepaActionsConfig
from jepa_actions.adapters.lerobot.two_room import TwoRoomEnvConfig, register

__all__ = ["JepaActionsConfig", "TwoRoomEnvConfig"]

register()
