"""Episodes to and from other people's formats: LeRobotDataset and numpy archives.

    export_lerobot   aligned episodes -> a LeRobotDataset v3.0
    import_lerobot   a LeRobotDataset v3.0 -> bags
    export_npz       aligned episodes -> one .npz each
    load_npz         such an .npz -> the aligned episode

Errors that a person can mend are `rl_robot.errors.UserError`.
"""

from rl_robot.exchange.lerobot import LeRobotExport, export_lerobot, import_lerobot
from rl_robot.exchange.npz import export_npz, load_npz

__all__ = ["LeRobotExport", "export_lerobot", "export_npz", "import_lerobot", "load_npz"]
