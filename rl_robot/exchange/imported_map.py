"""How to align bags that an import made: the map that says what their topics mean."""

from rl_robot.bags import BagReader
from rl_robot.bags.cdr import read_image
from rl_robot.experience.bag_map import BagMap, Source

_TICKS, _ACTION, _REWARD = "perception/ages", "policy/action", "reward"
_PROPOSED = "lerobot/proposed_action"
_IMAGE = "sensor_msgs/msg/Image"
_NUMBERS = "sensor_msgs/msg/JointState"


def map_of_import(bag: BagReader) -> BagMap:
    """Return the map of a bag that `import_lerobot` wrote; all bags of one import have the same.

    Pictures keep their size. Features that are not observations, as LeRobot names them, are left
    out: they are on topics ``lerobot/...``.
    """
    observations = {}
    for topic, kind in bag.types.items():
        if topic in (_TICKS, _ACTION, _REWARD) or topic.startswith("lerobot/"):
            continue
        name = topic.removesuffix("/image_raw")
        if kind == _IMAGE:
            first = read_image(next(bag.messages([topic])).raw)
            observations[name] = Source(f"/{topic}", size=(first.width, first.height))
        elif kind == _NUMBERS:
            observations[name] = Source(f"/{topic}")
    judged = _REWARD in bag.types
    return BagMap(
        observations=observations,
        action=Source(f"/{_ACTION}"),
        ticks=f"/{_TICKS}",
        proposed=Source(f"/{_PROPOSED}") if _PROPOSED in bag.types else None,
        reward=Source(f"/{_REWARD}", names=("total",)) if judged else None,
        terminated=Source(f"/{_REWARD}", names=("terminated",)) if judged else None,
    )
