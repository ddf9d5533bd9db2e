"""Where a scene's objects may be put."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rl_robot.errors import UserError
from rl_robot.simulation.world import Scene

Array = NDArray[np.float64]


def check_object(scene: Scene, name: str) -> None:
    """Raise a UserError unless the scene has an object called ``name``."""
    if name not in scene.objects:
        known = ", ".join(scene.objects) or "none"
        raise UserError(f"the scene has no object {name!r}; it has {known}")


def resting_pose(scene: Scene, name: str, x: float, y: float, yaw: float) -> Array:
    """Return the pose (7,) x, y, z, qx, qy, qz, qw of an object at rest on the table.

    Args:
        scene: the scene.
        name: the object.
        x: of its centre, m.
        y: of its centre, m.
        yaw: rad.

    Raises:
        UserError: unknown object, values that are not finite, or a place beside the table.
    """
    check_object(scene, name)
    if not np.isfinite([x, y, yaw]).all():
        raise UserError(f"{name} cannot be placed at ({x}, {y}, {yaw}): not finite")
    table = scene.table
    aside = np.abs(np.array([x, y]) - table.centre)
    if np.any(aside > np.array(table.size[:2]) / 2.0):
        raise UserError(f"{name} cannot be placed at ({x:g}, {y:g}) m: outside the table")
    height = scene.objects[name].size / 2.0
    return np.array([x, y, height, 0.0, 0.0, np.sin(yaw / 2.0), np.cos(yaw / 2.0)])


def resting_poses(
    scene: Scene, places: Mapping[str, tuple[float, float, float]]
) -> dict[str, Array]:
    """Return the poses (7,) of all objects: at (x, y, yaw) in ``places``, or as the scene says.

    Raises:
        UserError: as ``resting_pose`` does.
    """
    everywhere = {name: block.pose for name, block in scene.objects.items()} | dict(places)
    return {name: resting_pose(scene, name, *place) for name, place in everywhere.items()}
