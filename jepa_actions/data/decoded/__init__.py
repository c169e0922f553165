"""A data set decoded once into one file per camera."""
