"""Between a robot's action units and the model's."""
