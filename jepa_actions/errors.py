"""Errors that name the place, what was found and what was expected, in one line. Every room may import this file."""


class JepaActionsError(ValueError):
    """Base of every error this library raises for bad input; the command line prints it as one line and exits 2."""


class DataError(JepaActionsError):
    """A recording, a label or a data folder is not what it should be."""


class ConfigError(JepaActionsError):
    """A recipe, a protocol or a command-line option is not valid."""


class CheckpointError(JepaActionsError):
    """A model folder or a training checkpoint is damaged, incomplete or of another version."""


class ShapeError(JepaActionsError):
    """A tensor has the wrong shape or dtype."""


class PlanningError(JepaActionsError):
    """A planning problem is not valid, or its cost is not a number."""
