"""stable-worldmodel 0.1.1: our world models in its solvers and `World.evaluate`, our planners on its environments.

Everything is structural: what its `World`, `WorldModelPolicy` and solvers call is here, and nothing of it is imported.
"""

from jepa_actions.adapters.stable_worldmodel.control_policy import ControlPolicy, Decided
from jepa_actions.adapters.stable_worldmodel.cost_model import ActionUnits, CostModel
from jepa_actions.adapters.stable_worldmodel.pictures import Pictures, resize_area

__all__ = ["ActionUnits", "ControlPolicy", "CostModel", "Decided", "Pictures", "resize_area"]
