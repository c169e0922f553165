"""Processors of the policy: batch axis and device. The model normalises by itself, so numbers stay as they are."""
# mypy: disable-error-code="import-not-found"

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.utils.constants import POLICY_POSTPROCESSOR_DEFAULT_NAME, POLICY_PREPROCESSOR_DEFAULT_NAME

from jepa_actions.adapters.lerobot.configuration_jepa_actions import JepaActionsConfig


def make_jepa_actions_pre_post_processors(config: JepaActionsConfig, dataset_stats: Any = None) -> tuple[Any, Any]:
    """What LeRobot calls by this name, before the policy and after it.

    Arguments:
        dataset_stats: not used; the model's codec has its own statistics.
    """
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device=config.device),
    ]
    after = [DeviceProcessorStep(device="cpu")]
    return (
        PolicyProcessorPipeline(steps=before, name=POLICY_PREPROCESSOR_DEFAULT_NAME),
        PolicyProcessorPipeline(
            steps=after,
            name=POLICY_POSTPROCESSOR_DEFAULT_NAME,
            to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action,
        ),
    )
