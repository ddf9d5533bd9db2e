"""Camera calibration from a ChArUco board: intrinsics, and where the camera is on the robot."""
