"""What a trainer no longer needs the bags for, so that a quota may remove them."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from rl_robot.bags import EpisodeMetadata
from rl_robot.experience.runs import RunFolder
from rl_robot.training.intake import EXPLORATION, role_of

_EPISODES = "episodes"


def is_removable(metadata: EpisodeMetadata) -> bool:
    """Whether an episode is exploration, or broke on a training start.

    Demonstrations stay, and so does every episode of another split: what was measured can be
    looked at.
    """
    broke = metadata.split == "train" and metadata.outcome == "broken"
    return broke or role_of(metadata) == EXPLORATION


def bags_in_checkpoint(folder: Path) -> set[str]:
    """Names of the run's own bags that its trainer needs no more, wherever it is killed.

    They are those that its checkpoint holds what was learnt from; all that are there once the
    checkpoint says that the trainer is done. Empty without a sound checkpoint.
    """
    try:
        with safe_open(folder / "trainer" / "checkpoint.safetensors", framework="numpy") as file:
            values = json.loads((file.metadata() or {})["values"])
        keys = [Path(key) for name in ("bags", "ignored", "left_out") for key in values[name]]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return set()
    if values.get("done"):
        return {path.name for path in RunFolder(folder).list_episodes()}
    return {key.name for key in keys if key.parent == Path(_EPISODES)}
