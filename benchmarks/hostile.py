"""Streams of commands that nobody should send: what the safety filter is fuzzed with.

A stream lasts for some commands and asks for motion in its own bad way; while it lasts, some or all
of its commands may be spoilt as well: numbers that are not, wrong shapes, names, types or stamps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_robot.robots.cartesian import CartesianAction, Motion
from rl_robot.robots.description import Robot
from rl_robot.safety.checks import RawCommand
from rl_robot.safety.filter import State

Array = NDArray[np.float64]
Points = tuple[Any, Any]  # times (H,) and positions (H, n), before they are spoilt
Asking = Callable[[State], Points]

NUMBERS = (0.0, -0.0, 1.0, -1e9, 1e308, -1.7e308, 5e-324, -2e-310, math.nan, math.inf, -math.inf)
NOT_NUMBERS = (None, "far", b"", object(), {}, 10**400, 1j, True, [[0.0]], [1.0, [2.0]], "nan")
AGES = (0.0, 0.01, 0.24, 0.26, -1e-9, -1.0, 1e9, math.nan, math.inf, -math.inf)  # s
LONGEST_STREAM = 40  # commands
FASTEST_TOOL = 2.5  # m/s, several times what any robot here is allowed
NOW_NS = 10**18


@dataclass(frozen=True)
class Arrival:
    """A command as it arrives: what it says, the time now, and how long it has waited (s)."""

    command: RawCommand
    now_ns: int = NOW_NS
    received_age: float = 0.0

    def unchecked(self) -> Motion:
        """Return the same as a motion, as if nothing had been checked."""
        command = self.command
        return Motion(tuple(command.names), _array(command.times), _array(command.positions))


def _array(values: Any) -> Any:
    try:
        return np.asarray(values)
    except ValueError:  # rows of different lengths
        return np.asarray(values, dtype=object)


class Attacker:
    """Sends one stream after the other. The same generator and states give the same commands."""

    def __init__(self, robot: Robot, period: float, random: np.random.Generator) -> None:
        self._random = random
        self._names = list(robot.joint_names)
        self._lower, self._upper = robot.lower, robot.upper
        self._velocity, self._acceleration = robot.velocity, robot.acceleration
        self._jerk = np.array([joint.jerk for joint in robot.joints])
        self._period = period
        self._tool = CartesianAction(robot, max_speed=FASTEST_TOOL, period=period)
        self._streams = (
            self._silence,
            self._far,
            self._ends,
            self._posture,
            self._bang,
            self._walk,
            self._sine,
            self._reversals,
            self._nearly_permitted,
            self._push,
        )
        self._spoilers = (
            self._spoil_numbers,
            self._spoil_times,
            self._spoil_shapes,
            self._spoil_names,
            self._spoil_types,
            self._spoil_stamps,
        )
        self._left = 0
        self._asking: Asking | None = None
        self._spoilt = 0.0  # part of the stream's commands

    def next(self, state: State) -> Arrival | None:
        """Return the next command, to a robot in ``state``; None for none at all."""
        random = self._random
        if self._left == 0:
            self._left = int(random.integers(1, LONGEST_STREAM))
            self._asking = self._streams[random.integers(len(self._streams))]()
            self._spoilt = random.choice([0.0, 0.0, 0.1, 1.0])
        self._left -= 1
        if self._asking is None:
            return None
        times, positions = self._asking(state)
        arrival = Arrival(RawCommand("policy", NOW_NS, self._names, times, positions))
        if random.random() < self._spoilt:
            arrival = self._spoilers[random.integers(len(self._spoilers))](arrival)
        return arrival

    # --- what is asked for -----------------------------------------------------------------

    def _silence(self) -> None:
        return None

    def _far(self) -> Asking:
        """Targets at any distance, within any time."""
        random = self._random

        def ask(state: State) -> Points:
            count = int(random.integers(1, 8))
            size = 10.0 ** random.uniform(-8, 3)
            times = np.cumsum(10.0 ** random.uniform(-9, 0, count))
            return times, state.positions + size * random.normal(size=(count, len(self._names)))

        return ask

    def _ends(self) -> Asking:
        """At full speed to the position limits, or just beyond, and along them."""
        random = self._random
        beyond = random.choice([-1.0, 0.0, 1.0]) * 10.0 ** random.uniform(-12, 0)
        end = self._corner(beyond)
        speed = self._velocity * (1.0 + random.choice([-1.0, 0.0, 1.0]) * 1e-6)

        def ask(state: State) -> Points:
            times = self._times()
            reach = speed * times[:, None]
            return times, state.positions + np.clip(end - state.positions, -reach, reach)

        return ask

    def _posture(self) -> Asking:
        """Somewhere within the limits at once: through the robot itself and through the table."""
        posture = self._random.uniform(self._lower, self._upper)
        return lambda _: (np.array([self._random.choice([0.0, 0.02, 0.1, 1.0])]), posture[None])

    def _bang(self) -> Asking:
        """From one end of the range to the other and back."""
        ends = self._corner(0.0), self._corner(0.0)
        every = int(self._random.integers(1, 15))
        count = 0

        def ask(_: State) -> Points:
            nonlocal count
            count += 1
            return np.array([self._period]), ends[count // every % 2][None]

        return ask

    def _walk(self) -> Asking:
        """A random walk of the velocities."""
        size = self._random.uniform(0.1, 3.0)
        rates = np.zeros(len(self._names))

        def ask(state: State) -> Points:
            nonlocal rates
            change = size * self._acceleration * self._period
            rates = np.clip(
                rates + change * self._random.normal(size=len(rates)),
                -1.1 * self._velocity,
                1.1 * self._velocity,
            )
            times = self._times()
            return times, state.positions + times[:, None] * rates

        return ask

    def _sine(self) -> Asking:
        """Sinusoids, up to the frequencies at which servos and the filter's periods resonate."""
        random = self._random
        pulse = 2.0 * math.pi * 10.0 ** random.uniform(-0.5, 1.5)  # rad/s
        most = np.minimum(self._acceleration / pulse**2, 0.5 * (self._upper - self._lower))
        amplitude = random.uniform(0.2, 2.0, len(most)) * most
        phases = random.uniform(0.0, 2.0 * math.pi, len(most))
        middle = random.uniform(self._lower, self._upper)
        clock = 0.0

        def ask(_: State) -> Points:
            nonlocal clock
            times = self._times()
            wave = np.sin(pulse * (clock + times)[:, None] + phases)
            clock += self._period
            return times, middle + amplitude * wave

        return ask

    def _reversals(self) -> Asking:
        """Full speed ahead, and now and then full speed back."""
        signs = self._random.choice([-1.0, 1.0], len(self._names))

        def ask(state: State) -> Points:
            nonlocal signs
            if self._random.random() < 0.3:
                signs = -signs
            times = self._times()
            return times, state.positions + signs * self._velocity * times[:, None]

        return ask

    def _nearly_permitted(self) -> Asking:
        """On from the present state with jerks about as large as they may be."""
        random = self._random
        scale = random.choice([0.5, 0.99, 1.0, 1.0 + 1e-9, 1.01, 1.5])

        def ask(state: State) -> Points:
            times = self._period * np.arange(1, 6) / 5.0
            jerk = scale * self._jerk * random.choice([-1.0, 0.0, 1.0], len(self._names))
            t = times[:, None]
            p, v, a = state
            return times, p + v * t + a * t**2 / 2.0 + jerk * t**3 / 6.0

        return ask

    def _push(self) -> Asking:
        """The tool in one direction, whatever is there, by inverse kinematics."""
        action = self._random.choice([-1.0, 0.0, 1.0], 5)

        def ask(state: State) -> Points:
            motion = self._tool.to_motion(state.positions, action)
            return motion.times, motion.positions

        return ask

    def _corner(self, beyond: float) -> Array:
        upwards = self._random.random(len(self._names)) < 0.5
        return np.where(upwards, self._upper + beyond, self._lower - beyond)

    def _times(self) -> Array:
        count = int(self._random.integers(1, 8))
        last = self._period * self._random.choice([0.5, 1.0, 1.0, 1.0, 2.0])
        return last * np.arange(1, count + 1) / count

    # --- what is wrong with it -------------------------------------------------------------

    def _spoil_numbers(self, arrival: Arrival) -> Arrival:
        positions = np.array(arrival.command.positions)
        some = self._random.random(positions.shape) < self._random.choice([0.1, 1.0])
        positions[some] = self._random.choice(NUMBERS, int(some.sum()))
        return _changed(arrival, positions=positions)

    def _spoil_times(self, arrival: Arrival) -> Arrival:
        times = np.array(arrival.command.times)
        some = self._random.choice(NUMBERS, len(times))
        changes = (
            lambda: some,
            lambda: times[::-1],
            lambda: np.zeros_like(times),
            lambda: -times,
            lambda: 1e300 * times,
            lambda: 1e-310 * times,
            lambda: times - self._period,
            lambda: np.full_like(times, times[-1]),
        )
        return _changed(arrival, times=changes[self._random.integers(len(changes))]())

    def _spoil_shapes(self, arrival: Arrival) -> Arrival:
        command, random = arrival.command, self._random
        positions = np.array(command.positions)
        wrong = (
            lambda: {"positions": positions[:, :-1]},
            lambda: {"positions": positions[:-1]},
            lambda: {"positions": np.hstack([positions, positions])},
            lambda: {"positions": positions.T},
            lambda: {"positions": positions[None]},
            lambda: {"positions": positions.ravel()},
            lambda: {"positions": np.float64(1.0), "times": np.float64(0.1)},
            lambda: {"positions": np.empty((0, positions.shape[1])), "times": np.empty(0)},
            lambda: {"times": np.array(command.times)[:, None]},
            lambda: {"times": np.append(command.times, 9.0)},
            lambda: {
                "times": 0.001 * np.arange(1, 1203),
                "positions": np.repeat(positions[:1], 1202, axis=0),
            },
        )
        return _changed(arrival, **wrong[random.integers(len(wrong))]())

    def _spoil_names(self, arrival: Arrival) -> Arrival:
        names = list(arrival.command.names)
        order = self._random.permutation(len(names)).tolist()
        wrong: tuple[Callable[[], list[Any]], ...] = (
            list,
            lambda: names[:-1],
            lambda: [*names[:-1], names[0]],
            lambda: [*names, names[0]],
            lambda: [*names[:-1], "elbo"],
            lambda: [names[0].upper(), *names[1:]],
            lambda: [*names[:-1], NOT_NUMBERS[self._random.integers(len(NOT_NUMBERS))]],
            lambda: [names[0] * 10_000, *names[1:]],
            lambda: [names[index] for index in order],  # not wrong, but not as usual
        )
        return _changed(arrival, names=wrong[self._random.integers(len(wrong))]())

    def _spoil_types(self, arrival: Arrival) -> Arrival:
        random = self._random
        which = str(random.choice(["times", "positions"]))
        values = np.array(getattr(arrival.command, which))
        listed = values.tolist()
        odd = NOT_NUMBERS[random.integers(len(NOT_NUMBERS))]
        wrong = (
            lambda: odd,
            lambda: [odd, *listed[1:]],
            lambda: [*listed, []],
            lambda: values.astype(str),
            lambda: values.astype(object),
            lambda: values.astype(complex),
            lambda: values > 0.0,
            lambda: values.astype(np.float32),  # not wrong, but not as usual
            lambda: np.clip(values, -9.0, 9.0).astype(np.int8),
            lambda: values.astype(np.longdouble) * np.longdouble("1e4000"),
        )
        return _changed(arrival, **{which: wrong[random.integers(len(wrong))]()})

    def _spoil_stamps(self, arrival: Arrival) -> Arrival:
        random = self._random
        ages = random.choice(AGES, 2).tolist()
        stamps: tuple[Any, ...] = (0, -(10**18), 2**63 - 1, 10**400, math.nan, None, "now")
        stamp: Any = stamps[random.integers(len(stamps))]
        if random.random() < 0.5 and math.isfinite(ages[0]):
            stamp = NOW_NS - round(1e9 * ages[0])
        return replace(_changed(arrival, stamp_ns=stamp), received_age=ages[1])


def _changed(arrival: Arrival, **changes: Any) -> Arrival:
    return replace(arrival, command=replace(arrival.command, **changes))
