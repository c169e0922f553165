"""LeRobot data sets, versions v3.0 and v2.1: reading, writing, checksums."""
