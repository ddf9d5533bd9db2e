"""Where a LeRobotDataset v3.0 keeps what, and what its columns are called.

Made from the source of lerobot 0.4.4 (Apache-2.0), which writes and reads this version.
"""

import re
from dataclasses import dataclass
from typing import Any

VERSION = "v3.0"
INFO = "meta/info.json"
STATISTICS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes"
# What LeRobot has no place for: metadata of the bags, and the observations' own names.
OURS = "meta/rl_robot.json"

FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{FILE}.mp4"
EPISODES_PATH = f"{EPISODES}/{FILE}.parquet"

FILES_PER_CHUNK = 1000
DATA_MEGABYTES = 100  # a file that has reached this is followed by another
VIDEO_MEGABYTES = 200

STATE = "observation.state"
IMAGES = "observation.images."
OBSERVATION = "observation."
ACTION = "action"
# Not called action.* or observation.*: LeRobot would take them for what a policy gives or takes.
PROPOSED = "proposed_action"
TICK = "tick_ns"
AGES = "observation.ages"
LATENCY = "latency"
GAP = "gap"
LAST = "is_last_observation"
REWARD = "next.reward"
DONE = "next.done"
TRUNCATED = "next.truncated"
SUCCESS = "next.success"


@dataclass(frozen=True)
class Feature:
    """A column as ``info.json`` describes it: shape of one row, names of its components."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Its entry in ``info.json``."""
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "names": None if self.names is None else list(self.names),
        }


INDEX_FEATURES = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}


def picture_key(observation: str) -> str:
    """Feature of a picture: "camera/image_raw" -> "observation.images.camera"."""
    return IMAGES + _dotted(observation.removesuffix("/image_raw"))


def vector_key(observation: str) -> str:
    """Feature of a vector: "perception/block/pose" -> "observation.perception.block.pose"."""
    return OBSERVATION + _dotted(observation)


def _dotted(name: str) -> str:
    # A feature's name is part of a path, and LeRobot forbids slashes in it.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name.strip("/").replace("/", "."))


def next_file(chunk: int, file: int) -> tuple[int, int]:
    """Indices of the file that follows."""
    return (chunk + 1, 0) if file == FILES_PER_CHUNK - 1 else (chunk, file + 1)
