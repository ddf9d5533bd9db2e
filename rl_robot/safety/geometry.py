"""How far the robot's parts are from each other and from what stands around it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import mujoco
import numpy as np
import numpy.typing as npt

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.robots.model import compile_model, robot_spec
from rl_robot.safety.shapes import inspect_pairs, pose_all

Array = npt.NDArray[np.float64]

FAR = 0.25  # m: distances beyond make no difference, and are given as this


@dataclass(frozen=True)
class Box:
    """Something to keep away from: centre (3,) and size (3,) in the base frame, m, axes aligned."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]


class Poses(NamedTuple):
    """Where tool (K, 3) and shapes (K, S, 3) are, m in the base frame, and their axes (K, S, 9)."""

    tools: Array
    centres: Array
    turns: Array


class Geometry:
    """Where a robot's parts are and how far apart, by MuJoCo on its URDF's collision shapes.

    Positions are (n,), in the robot's joint order.
    """

    def __init__(
        self,
        robot: Robot,
        boxes: Mapping[str, Box] | None = None,
        ignored: Collection[frozenset[str]] = (),
    ) -> None:
        """Build the model.

        Args:
            robot: the robot.
            boxes: what stands around it.
            ignored: pairs of links that may touch. Neighbours in the chain always may.

        Raises:
            UserError: MuJoCo cannot build the robot, or an ignored link does not exist.
        """
        spec = robot_spec(robot)
        for geom in [*spec.geoms]:
            if geom.group != 0:  # for the eye only
                spec.delete(geom)
        self._boxes = tuple((boxes or {}).items())
        for name, box in self._boxes:
            spec.worldbody.add_geom(
                name=f"obstacle {name}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=box.centre,
                size=[0.5 * length for length in box.size],
            )
        self._model = compile_model(spec, robot)
        self._data = mujoco.MjData(self._model)
        self._joint_ids = [self._model.joint(name).id for name in robot.joint_names]
        self._mimics = _mimics(self._model)
        self._offset, self._spread = self._coordinates()
        self._tool = self._model.body(robot.tool_frame).id
        # views of what MuJoCo computes, for it costs time to ask for them
        self._qpos = self._data.qpos
        self._centres_now, self._turns_now = self._data.geom_xpos, self._data.geom_xmat
        self._tool_now = self._data.xpos[self._tool]
        self._addresses = self._model._address, self._data._address  # for the compiled code
        self._obstacles = [self._model.geom(f"obstacle {name}").id for name, _ in self._boxes]
        shapes = [g for g in range(self._model.ngeom) if g not in self._obstacles]
        # What does not move can't be kept away from anything.
        moving = [g for g in shapes if self._moves(g)]
        self._pairs = {
            "self": _table(self._self_pairs(shapes, ignored)),
            "obstacles": _table([(g, box) for g in moving for box in self._obstacles]),
        }
        radii, extents = self._model.geom_rbound, self._model.geom_aabb
        for kind, table in self._pairs.items():
            larger_last = radii[table].argsort(axis=1)
            self._pairs[kind] = np.take_along_axis(table, larger_last, axis=1)
        self._extents = radii.copy(), extents.reshape(-1, 6).copy()
        #: by kind, (P, n): how far each joint can move what a pair consists of; m per rad or m
        self.reaches = {kind: self._pair_reaches(kind) for kind in self._pairs}
        #: (n,): the same for the tool
        self.tool_reach = np.array(self._by_joint(self._chain_reaches(self._tool, 0.0).items()))

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied: a copy would speak of the original's model.

        Raises:
            TypeError: always.
        """
        raise TypeError("a Geometry can't be copied or pickled: make another one")

    def coordinates(self, positions: Array) -> Array:
        """Return MuJoCo's coordinates (K, nq) for joints at ``positions`` (K, n)."""
        coordinates: Array = self._offset + positions @ self._spread.T
        return coordinates

    def put(self, coordinates: Array) -> None:
        """Put the robot where ``coordinates`` (nq,) say; the other methods speak of that."""
        self._qpos[:] = coordinates
        mujoco.mj_kinematics(self._model, self._data)

    def place(self, positions: Array) -> None:
        """Put the robot's joints at ``positions`` (n,)."""
        self.put(self.coordinates(positions[None])[0])

    def poses(self, coordinates: Array) -> Poses:
        """Return where everything is at coordinates (K, nq)."""
        count, shapes = len(coordinates), self._model.ngeom
        poses = Poses(
            np.empty((count, 3)), np.empty((count, shapes, 3)), np.empty((count, shapes, 9))
        )
        pose_all(
            *self._addresses,
            self._qpos,
            self._tool_now,
            self._centres_now,
            self._turns_now,
            coordinates,
            *poses,
        )
        return poses

    def inspect(
        self, kind: str, poses: Poses, turned: Array, distance: float, reserve: float
    ) -> tuple[float, str, bool]:
        """Look at whether a motion brings any pair of a kind too close, see `inspect_pairs`.

        Args:
            kind: "self", links that may not touch, or "obstacles", the robot and the boxes.
            poses: at each of K samples.
            turned: (K, n) how far the joints have moved in all up to each sample, rad or m.
            distance: m that is kept.
            reserve: m that is kept on top at the samples.

        Returns:
            The least distance that was seen, m; of what; whether it is too little.
        """
        pairs = self._pairs[kind]
        if not len(pairs):
            return FAR, "", False
        least, pair, broken = inspect_pairs(
            *self._addresses,
            self._centres_now,
            self._turns_now,
            poses.centres,
            poses.turns,
            *self._extents,
            turned,
            pairs,
            self.reaches[kind],
            distance,
            reserve,
            FAR,
        )
        return least, self.name(kind, pair), broken

    def distances(self, kind: str) -> list[float]:
        """Return the distances in m, ``FAR`` at most, of all pairs of a kind."""
        model, data = self._model, self._data
        return [
            mujoco.mj_geomDistance(model, data, one, other, FAR, None)
            for one, other in self._pairs[kind].tolist()
        ]

    def name(self, kind: str, index: int) -> str:
        """Return the names of what a pair consists of."""
        return "-".join(self._name(geom) for geom in self._pairs[kind][index].tolist())

    def _name(self, geom: int) -> str:
        if geom in self._obstacles:
            return self._boxes[self._obstacles.index(geom)][0]
        return str(self._model.body(self._model.geom_bodyid[geom]).name)

    def _moves(self, geom: int) -> bool:
        return bool(self._model.body_weldid[self._model.geom_bodyid[geom]] != 0)

    def _self_pairs(
        self, shapes: Sequence[int], ignored: Collection[frozenset[str]]
    ) -> list[tuple[int, int]]:
        model = self._model
        links = {model.body(body).name for body in range(model.nbody)}
        for pair in ignored:
            for link in pair - links:
                raise UserError(f"self_collision: no link is called {link}")
        weld, parent = model.body_weldid, model.body_parentid
        pairs = []
        for index, one in enumerate(shapes):
            for other in shapes[index + 1 :]:
                bodies = model.geom_bodyid[one], model.geom_bodyid[other]
                first, second = (weld[body] for body in bodies)
                neighbours = weld[parent[first]] == second or weld[parent[second]] == first
                names = frozenset(model.body(body).name for body in bodies)
                if first != second and not neighbours and names not in ignored:
                    pairs.append((one, other))
        return pairs

    def _coordinates(self) -> tuple[Array, Array]:
        """Return MuJoCo's coordinates as a linear function of the positions: (nq,) and (nq, n)."""
        model = self._model
        offset, spread = model.qpos0.copy(), np.zeros((model.nq, len(self._joint_ids)))
        for column, joint in enumerate(self._joint_ids):
            offset[model.jnt_qposadr[joint]] = 0.0
            spread[model.jnt_qposadr[joint], column] = 1.0
        for follower, leader, constant, factor in self._mimics:
            offset[model.jnt_qposadr[follower]] = constant
            spread[model.jnt_qposadr[follower]] = factor * spread[model.jnt_qposadr[leader]]
        return offset, spread

    def _pair_reaches(self, kind: str) -> Array:
        """Return (P, n): how far each joint, moving alone, can move two shapes against each other.

        At most, in m per rad or m.
        """
        rows = []
        for one, other in self._pairs[kind].tolist():
            first, second = self._shape_reaches(one), self._shape_reaches(other)
            common = first.keys() & second.keys()  # these move both alike
            rows.append(
                self._by_joint(
                    [
                        (joint, metres)
                        for reaches in (first, second)
                        for joint, metres in reaches.items()
                        if joint not in common
                    ]
                )
            )
        return np.array(rows).reshape(-1, len(self._joint_ids))

    def _shape_reaches(self, geom: int) -> dict[int, float]:
        """Return what each joint on the way to the base can move a shape's points by."""
        model = self._model
        far = float(np.linalg.norm(model.geom_pos[geom])) + float(model.geom_rbound[geom])
        return self._chain_reaches(int(model.geom_bodyid[geom]), far)

    def _chain_reaches(self, body: int, far: float) -> dict[int, float]:
        """Return the same for a point ``far`` m from a body's origin."""
        model = self._model
        reaches = {}
        while body != 0:
            first = int(model.body_jntadr[body])
            for joint in range(first, first + int(model.body_jntnum[body])):
                hinge = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE
                reaches[joint] = far if hinge else 1.0
                far += 0.0 if hinge else self._furthest(joint)
            far += float(np.linalg.norm(model.body_pos[body]))
            body = int(model.body_parentid[body])
        return reaches

    def _furthest(self, joint: int) -> float:
        """Return how far from 0 a sliding joint can get, m; one that mimics, by whom it follows."""
        for follower, leader, constant, factor in self._mimics:
            if follower == joint:
                return float(np.abs(constant + factor * self._model.jnt_range[leader]).max())
        return float(np.abs(self._model.jnt_range[joint]).max())

    def _by_joint(self, reaches: Iterable[tuple[int, float]]) -> list[float]:
        """Return reaches by the robot's joints; joints that mimic count for those they follow."""
        leaders = {follower: (leader, factor) for follower, leader, _, factor in self._mimics}
        total = [0.0] * len(self._joint_ids)
        for joint, metres in reaches:
            leader, factor = leaders.get(joint, (joint, 1.0))
            if leader in self._joint_ids:
                total[self._joint_ids.index(leader)] += abs(factor) * metres
        return total


def _table(pairs: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _mimics(model: mujoco.MjModel) -> list[tuple[int, int, float, float]]:
    """Return each mimic joint and its leader, by id, and the line between their positions."""
    return [
        (int(one), int(other), float(data[0]), float(data[1]))
        for kind, one, other, data in zip(
            model.eq_type, model.eq_obj1id, model.eq_obj2id, model.eq_data, strict=True
        )
        if kind == mujoco.mjtEq.mjEQ_JOINT and other >= 0
    ]
