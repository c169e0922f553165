"""Other frameworks: our models and planners in theirs. Nothing else in the package imports this room."""
