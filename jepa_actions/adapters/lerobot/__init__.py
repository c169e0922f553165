"""LeRobot 0.4.4: our world models as one of its policies, so that `lerobot-eval` and a robot's loop plan in them.

The plugin package `lerobot_policy_jepa_actions` (integrations/) imports `configuration_jepa_actions`, and LeRobot finds
the policy and its processors by their names beside it. `goals` needs nothing of LeRobot.
"""
