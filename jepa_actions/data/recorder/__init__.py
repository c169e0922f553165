"""Gymnasium environments recorded into LeRobot data sets."""
