"""What lerobot itself does, in its own environment: reads a data set into arrays, writes one.

    python lerobot_side.py read DATASET ARRAYS.npz
    python lerobot_side.py write ARRAYS.npz DATASET

It knows nothing of rl_robot; arrays go to and fro as `.npz`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

# torchvision's own build, where it is one for CUDA, does not load without; lerobot uses only its
# transforms, which then still fail to import unless these two operators are known by name.
try:
    import torchvision  # noqa: F401
except RuntimeError:
    for operator in ("nms", "qnms"):
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{operator}", signature)

from lerobot.datasets.lerobot_dataset import LeRobotDataset

DELTAS = (-0.1, 0.0, 0.1)


def read(folder: Path, arrays: Path) -> None:
    """Every row by its index, as a training script gets it, and windows of some rows."""
    dataset = LeRobotDataset("local/exported", root=folder)
    items = [dataset[i] for i in range(len(dataset))]
    found = {f"rows/{key}": _stacked([item[key] for item in items]) for key in items[0]}
    cameras = dataset.meta.camera_keys
    deltas = {key: list(DELTAS) for key in ("observation.state", "action", *cameras)}
    windows = LeRobotDataset("local/exported", root=folder, delta_timestamps=deltas)
    items = [windows[i] for i in range(len(windows))]
    for key in deltas:
        found[f"windows/{key}"] = _stacked([item[key] for item in items])
        found[f"windows/{key}_is_pad"] = _stacked([item[f"{key}_is_pad"] for item in items])
    about = {
        "features": {
            key: {"names": f["names"], "shape": list(f["shape"])}
            for key, f in dataset.features.items()
        },
        "fps": dataset.fps,
        "robot_type": dataset.meta.robot_type,
        "episodes": dataset.num_episodes,
        "backend": dataset.video_backend,
        "mean": {key: np.asarray(s["mean"]).tolist() for key, s in dataset.meta.stats.items()},
    }
    # As its training loop does: one batch through a loader.
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True)
    about["batch"] = {
        k: list(v.shape) for k, v in next(iter(loader)).items() if hasattr(v, "shape")
    }
    np.savez(arrays, about=np.array(json.dumps(about)), **found)


def write(arrays: Path, folder: Path) -> None:
    """A data set by lerobot's own writer, of the episodes in the arrays."""
    with np.load(arrays, allow_pickle=False) as given:
        episodes = {key: given[key] for key in given.files}
    height, width = episodes["0/top"].shape[1:3]
    picture = {"shape": (height, width, 3), "names": ["height", "width", "channels"]}
    dataset = LeRobotDataset.create(
        "local/written",
        fps=20,
        root=folder,
        robot_type="so101",
        features={
            "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
            "observation.force": {"dtype": "float32", "shape": (2, 2), "names": None},
            "observation.images.top": {"dtype": "video", **picture},
            "observation.images.wrist": {"dtype": "image", **picture},
            "action": {"dtype": "float32", "shape": (2,), "names": {"motors": ["pan", "lift"]}},
            "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
            "next.success": {"dtype": "bool", "shape": (1,), "names": None},
            "note": {"dtype": "string", "shape": (1,), "names": None},
        },
    )
    for index, task in enumerate(("Push the block", "Open the drawer")):
        columns = {key.split("/")[1]: v for key, v in episodes.items() if key[0] == str(index)}
        for row in range(len(columns["state"])):
            dataset.add_frame(
                {
                    "observation.state": columns["state"][row],
                    "observation.force": columns["force"][row],
                    "observation.images.top": columns["top"][row],
                    "observation.images.wrist": columns["wrist"][row],
                    "action": columns["action"][row],
                    "next.reward": columns["reward"][row],
                    "next.success": columns["success"][row],
                    "note": f"row {row}",
                    "task": task,
                }
            )
        dataset.save_episode()
    dataset.finalize()


def _stacked(values: list[Any]) -> np.ndarray:
    if not isinstance(values[0], torch.Tensor):
        return np.array(values)
    stacked = torch.stack(values)
    # Pictures are float32 (..., C, H, W) from 0 to 1.
    if stacked.ndim >= 4 and stacked.dtype == torch.float32 and stacked.shape[-3] == 3:
        return (stacked.movedim(-3, -1) * 255).round().to(torch.uint8).numpy()
    return stacked.numpy()


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    {"read": read, "write": write}[what](Path(first), Path(second))
