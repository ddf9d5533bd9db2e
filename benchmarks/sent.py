"""Looks at what a safety filter sent, with arithmetic of its own: none of the filter's is used.

The promise about joints is checked on the samples that a driver gets, at the times at which it gets
them: their divided differences of the first, second and third order are a mean of the velocity,
acceleration and jerk of any path through them, so a path within limits can't exceed them in any.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import mujoco
import numpy as np
from numpy.typing import NDArray

from rl_robot.robots.description import Robot
from rl_robot.robots.model import compile_model, robot_spec

Array = NDArray[np.float64]

RELATIVE = 1e-6  # what may be exceeded, of a limit
FINEST = 1e-6  # m: how exactly distances of shapes are known
BESIDE = 1e-4  # m that the tool may be beside its chords
CLOSEST = 1e-3  # s: samples closer together than that say nothing about accelerations
_SAME_TIME = 1e-9  # s
_ULPS = 4.0  # rounding of one sample: some operations on numbers as large as the sample
_DERIVATIVES = ("velocity", "acceleration", "jerk")


@dataclass
class Findings:
    """How often each promise was broken, by how much at worst, and where first.

    Attributes:
        broken: by promise, how many samples (or whatever it speaks of) break it.
        worst: by promise, the largest excess: relative to the limit, or in its unit where it says.
        first: by promise, the words that say where to find the first.
        allowance: by derivative, the largest part of a limit that rounding was allowed on top.
    """

    broken: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    allowance: dict[str, float] = field(default_factory=dict)

    def look(self, promise: str, excess: float, where: str, *, broken: int) -> None:
        """Take an ``excess``, and whether (how many times) the promise was ``broken`` by it."""
        self.worst[promise] = max(self.worst.get(promise, -np.inf), excess)
        if broken:
            self.broken[promise] += broken
            self.first.setdefault(promise, where)

    def merge(self, other: "Findings") -> None:
        """Add what another process found."""
        self.broken.update(other.broken)
        for mine, theirs in ((self.worst, other.worst), (self.allowance, other.allowance)):
            for name, value in theirs.items():
                mine[name] = max(mine.get(name, -np.inf), value)
        self.first = other.first | self.first


class Track:
    """Samples (t, positions) as they were sent, in pieces between which nothing is promised."""

    def __init__(self, joints: int) -> None:
        self._joints = joints
        self._times: list[Array] = []
        self._positions: list[Array] = []

    def add(self, times: Array, positions: Array) -> None:
        """Append samples, times (K,) in s and positions (K, n)."""
        self._times.append(times)
        self._positions.append(positions)

    def cut(self) -> None:
        """Begin a new piece."""
        self.add(np.full(1, np.nan), np.full((1, self._joints), np.nan))

    def arrays(self) -> tuple[Array, Array]:
        """Return all times (M,) and positions (M, n), NaN between pieces."""
        if not self._times:
            return np.empty(0), np.empty((0, self._joints))
        return np.concatenate(self._times), np.concatenate(self._positions)


def check_joints(
    robot: Robot, margins: Array, track: Track, findings: Findings, where: str
) -> None:
    """Check position limits (``margins`` (n,) within) and divided differences of what was sent."""
    times, positions = track.arrays()
    present = ~np.isnan(times)
    finite = np.isfinite(positions[present])
    findings.look("finite", float((~finite).any()), where, broken=int((~finite).any(axis=1).sum()))
    if not finite.all():
        return
    _check_positions(robot, margins, times, positions, findings, where)
    values, moments = positions, times
    rounding = _ULPS * np.spacing(np.maximum(np.abs(positions), 1.0))
    rounding = rounding + robot.velocity * (2.0 * np.spacing(np.abs(times)))[:, None]
    limits = robot.velocity, robot.acceleration, np.array([joint.jerk for joint in robot.joints])
    for order, (name, limit) in enumerate(zip(_DERIVATIVES, limits, strict=True), start=1):
        span = (moments[order:] - moments[:-order])[:, None]
        values = order * (values[1:] - values[:-1]) / span
        rounding = order * (rounding[1:] + rounding[:-1]) / span
        if not len(values):
            return
        excess = np.nan_to_num(np.abs(values) / limit - 1.0, nan=-1.0)
        allowed = np.nan_to_num(rounding / limit)
        findings.allowance[name] = max(findings.allowance.get(name, 0.0), float(allowed.max()))
        broken = excess > RELATIVE + allowed
        findings.look(
            name,
            float((excess - allowed).max()),
            _words(where, robot, times, broken),
            broken=int(broken.sum()),
        )


def _check_positions(
    robot: Robot, margins: Array, times: Array, positions: Array, findings: Findings, where: str
) -> None:
    """No sample may be outside, or further outside than its piece began, until it was inside."""
    lower, upper = robot.lower + margins, robot.upper - margins
    outside = np.maximum(np.maximum(lower - positions, positions - upper), 0.0)
    ends = np.flatnonzero(np.isnan(times)).tolist()
    excess = np.full_like(outside, -1.0)
    for begin, end in pairwise([-1, *ends, len(times)]):
        piece = outside[begin + 1 : end]
        if len(piece):
            still = np.logical_and.accumulate(piece > 0.0)
            excess[begin + 1 : end] = (piece - still * piece[0]) / (upper - lower)
    broken = excess > RELATIVE
    findings.look(
        "position",
        float(excess.max(initial=-1.0)),
        _words(where, robot, times, broken),
        broken=int(broken.sum()),
    )


def _words(where: str, robot: Robot, times: Array, broken: NDArray[np.bool_]) -> str:
    if not broken.any():
        return where
    row, joint = np.argwhere(broken)[0]
    return f"{where}, {robot.joint_names[joint]} at {times[row]:.4f} s"


@dataclass(frozen=True)
class Surroundings:
    """What a robot has to keep beside its joints' limits; None where its YAML does not ask for it.

    Attributes:
        margins: (n,) rad or m by which the position limits are narrower.
        self_distance: m between links.
        ignored: pairs of links that may touch.
        boxes: by name, centre (3,) and size (3,) in m of what to keep away from.
        box_distance: m.
        workspace: lower and upper corner (3,), m, of where the tool may be.
        tool_speed: m/s.
    """

    margins: Array
    self_distance: float | None = None
    ignored: frozenset[frozenset[str]] = frozenset()
    boxes: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    box_distance: float | None = None
    workspace: tuple[Array, Array] | None = None
    tool_speed: float | None = None

    @classmethod
    def of(cls, robot: Robot) -> "Surroundings":
        """Read them from the robot's YAML."""
        asked = robot.safety
        margin = asked.get("position", {}).get("margin", {})
        links, obstacles = asked.get("self_collision", {}), asked.get("obstacles", {})
        space = asked.get("workspace")
        return cls(
            margins=np.array([margin.get(name, 0.0) for name in robot.joint_names]),
            self_distance=links.get("distance"),
            ignored=frozenset(frozenset(pair) for pair in links.get("ignore", ())),
            boxes={
                name: (box["centre"], box["size"])
                for name, box in obstacles.get("boxes", {}).items()
            },
            box_distance=obstacles.get("distance"),
            workspace=(np.array(space["lower"]), np.array(space["upper"])) if space else None,
            tool_speed=asked.get("tool_speed", {}).get("limit"),
        )


class Whole:
    """Checks the whole robot by MuJoCo's collision detection, along the driver's straight lines."""

    def __init__(
        self, robot: Robot, around: Surroundings, *, interval: float, parts: int = 4
    ) -> None:
        """Look at ``parts`` points of the line between two samples.

        The tool's speed is the mean between two samples, ``interval`` (s) apart or more.
        """
        self._around, self._parts = around, parts
        self._interval = interval - _SAME_TIME
        spec = robot_spec(robot)
        for geom in [*spec.geoms]:
            if geom.group != 0:
                spec.delete(geom)
        for name, (centre, size) in around.boxes.items():
            half = [0.5 * length for length in size]
            kind = mujoco.mjtGeom.mjGEOM_BOX
            spec.worldbody.add_geom(name=f"box {name}", type=kind, pos=centre, size=half)
        margin = max(around.self_distance or 0.0, around.box_distance or 0.0)
        for geom in spec.geoms:
            geom.margin = margin
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_FILTERPARENT
        self._model = compile_model(spec, robot)
        self._limits = self._pair_limits()
        for one, other in self._unlimited_bodies():
            spec.add_exclude(bodyname1=one, bodyname2=other)
        self._model = compile_model(spec, robot)
        self._data = mujoco.MjData(self._model)
        self._joints = np.array([self._model.joint(n).qposadr[0] for n in robot.joint_names])
        self._tool = self._model.body(robot.tool_frame).id
        self._mimics = [
            (self._model.jnt_qposadr[one], self._model.jnt_qposadr[other], data[0], data[1])
            for kind, one, other, data in zip(
                self._model.eq_type,
                self._model.eq_obj1id,
                self._model.eq_obj2id,
                self._model.eq_data,
                strict=True,
            )
            if kind == mujoco.mjtEq.mjEQ_JOINT and other >= 0
        ]
        self._close: dict[tuple[int, int], float] = {}
        self._outside = np.zeros(6)
        self._fast = np.inf

    def begin(self, positions: Array) -> None:
        """Start anew, from anywhere: what is too close may be as close until it rests elsewhere."""
        tool = self._place(positions)
        self._close = self._contacts()
        self._outside = np.maximum(-self._room(tool[None])[0], 0.0)
        self._fast = np.inf  # until it was slow enough once

    def follow(self, times: Array, positions: Array, findings: Findings, where: str) -> None:
        """Check the way along samples (K, n) at times (K,) in s; the first is where it is."""
        shares = np.arange(1, self._parts + 1)[:, None] / self._parts
        before = self._place(positions[0])
        tools: list[Array] = []
        for (start, end), span in zip(pairwise(positions), np.diff(times).tolist(), strict=True):
            if np.array_equal(start, end):
                continue
            for point in start + shares * (end - start):
                tools.append(self._place(point))
                self._check_distances(findings, where)
            tool = tools[-1]
            if span >= self._interval:
                self._check_speed(float(np.linalg.norm(tool - before)) / span, findings, where)
            before = tool
        self._check_workspace(tools, findings, where)
        if len(positions) > 1 and np.array_equal(positions[-2], positions[-1]):
            # At rest: what is planned from here on has no more excuse than this.
            room = self._room(self._place(positions[-1])[None])[0]
            still = self._contacts()
            self._close = {pair: metres for pair, metres in self._close.items() if pair in still}
            self._outside = np.where(room >= 0.0, 0.0, self._outside)

    def free(self, positions: Array) -> bool:
        """Whether the robot keeps all distances, and the workspace, at ``positions`` (n,)."""
        tool = self._place(positions)
        return not self._contacts() and bool((self._room(tool[None]) >= 0.0).all())

    def _place(self, positions: Array) -> Array:
        data = self._data
        data.qpos[self._joints] = positions
        for follower, leader, offset, factor in self._mimics:
            data.qpos[follower] = offset + factor * data.qpos[leader]
        mujoco.mj_kinematics(self._model, data)
        tool: Array = data.xpos[self._tool].copy()
        return tool

    def _contacts(self) -> dict[tuple[int, int], float]:
        """Return the distances of the pairs that are closer than they may be.

        Collision detection finds them; how deep it says that they are in each other jumps about.
        """
        model, data = self._model, self._data
        mujoco.mj_collision(model, data)
        if not data.ncon:
            return {}
        pairs = {(one, other) for one, other in np.sort(data.contact.geom, axis=1).tolist()}
        found = {
            pair: mujoco.mj_geomDistance(model, data, *pair, self._limits[pair], None)
            for pair in pairs & self._limits.keys()
        }
        return {pair: metres for pair, metres in found.items() if metres < self._limits[pair]}

    def _check_distances(self, findings: Findings, where: str) -> None:
        for pair, metres in self._contacts().items():
            limit = self._limits[pair]
            allowed = min(limit, self._close.get(pair, limit))
            promise = "obstacles" if self._is_box(pair[0]) or self._is_box(pair[1]) else "self"
            names = "-".join(self._name(geom) for geom in pair)
            short = (allowed - metres) / limit
            # What began too close may not get closer: that is measured, not known exactly.
            tolerated = FINEST / limit if pair in self._close else RELATIVE
            findings.look(promise, short, f"{where}, {names}", broken=int(short > tolerated))

    def _check_workspace(self, tools: list[Array], findings: Findings, where: str) -> None:
        if not tools:
            return
        rooms = self._room(np.array(tools))
        further = -rooms - self._outside
        # From outside a side, it may go as much further as smooth motion is beside its chords, for
        # it is followed from there where a command comes before its period is over.
        tolerated = np.where(self._outside > 0.0, BESIDE, FINEST)
        findings.look(
            "workspace", float(further.max()), where, broken=int((further > tolerated).any())
        )

    def _check_speed(self, speed: float, findings: Findings, where: str) -> None:
        limit = self._around.tool_speed
        if limit is None:
            return
        if speed <= self._fast:
            self._fast = max(speed, limit)
        excess = (speed - self._fast) / limit
        findings.look("tool_speed", excess, where, broken=int(excess > RELATIVE))

    def _room(self, tools: Array) -> Array:
        """Return the room (K, 6) in m that the tool at (K, 3) has in the workspace."""
        if self._around.workspace is None:
            return np.full((len(tools), 6), np.inf)
        lower, upper = self._around.workspace
        return np.hstack([tools - lower, upper - tools])

    def _pair_limits(self) -> dict[tuple[int, int], float]:
        """Return by pair of shapes the distance that they have to keep."""
        model, around = self._model, self._around
        weld, parent = model.body_weldid, model.body_parentid
        limits = {}
        for one in range(model.ngeom):
            for other in range(one + 1, model.ngeom):
                bodies = model.geom_bodyid[one], model.geom_bodyid[other]
                first, second = (int(weld[body]) for body in bodies)
                if self._is_box(one) or self._is_box(other):
                    distance = around.box_distance
                    skip = first == second
                else:
                    distance = around.self_distance
                    names = frozenset(model.body(body).name for body in bodies)
                    neighbours = weld[parent[first]] == second or weld[parent[second]] == first
                    skip = first == second or bool(neighbours) or names in around.ignored
                if distance is not None and not skip:
                    limits[one, other] = distance
        return limits

    def _unlimited_bodies(self) -> list[tuple[str, str]]:
        """Return the pairs of bodies that may touch, so that no time is spent on them."""
        model = self._model
        limited = {frozenset(model.geom_bodyid[list(pair)].tolist()) for pair in self._limits}
        bodies = combinations(range(model.nbody), 2)
        return [
            (str(model.body(one).name), str(model.body(other).name))
            for one, other in bodies
            if frozenset((one, other)) not in limited
        ]

    def _is_box(self, geom: int) -> bool:
        return self._model.geom(geom).name.startswith("box ")

    def _name(self, geom: int) -> str:
        if self._is_box(geom):
            return str(self._model.geom(geom).name)
        return str(self._model.body(self._model.geom_bodyid[geom]).name)
