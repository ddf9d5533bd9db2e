"""The checklist of an arm's bring-up, from listening to moving, one step after the other.

Written as generators: each ``yield`` waits for the next tick. What they see and do goes through a
``Hub``, so the same checklist runs in a node and, in simulated time, in a test.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rl_robot.hardware import joint_checks
from rl_robot.hardware.findings import FAIL, PASS, Finding, failed, skipped
from rl_robot.hardware.graph_checks import (
    FEWEST_PICTURES,
    Calibration,
    Endpoint,
    Picture,
    check_camera,
    check_controllers,
)
from rl_robot.hardware.joint_checks import JointSample, positions_of
from rl_robot.hardware.slow_motion import (
    SlowMotion,
    Track,
    check_motion,
    check_rest,
    check_standing,
    choose_motion,
)
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import Robot
from rl_robot.safety.chain import make_filter

Array = NDArray[np.float64]
Steps = Generator[None, None, None]

LISTENING = ("joint_states", "stamps", "rate", "clock", "limits", "controllers", "camera")
MOVING = ("disabled", "enable", "motion", "stop", "silence", "timeout")
CHECKS = (*LISTENING, *MOVING)

LISTEN = 2.0  # s of joint states, at least
PATIENCE = 12.0  # s for what should be there to come: nodes and discovery take some
CLOCK_PATIENCE = 8.0  # s that ages are collected while they get smaller
STANDING = 0.5  # s of watching that nothing moves
SETTLING = 0.2  # s after a motion until it is judged
RUN_UP = 0.5  # s of motion before it is to be stopped
TRIES = 3  # of a motion that is to be stopped
WATCHED = 1.0  # s of watching it come to rest
SILENCE = 2.5  # control periods after which the safety node brakes, at most
STOPPING = 0.35  # s for a slow motion's braking, the drives' lag and the hearing of it


@dataclass(frozen=True)
class Sent:
    """What the safety node sent: positions (H, n) at ``times`` (H,), s of the hearer's clock."""

    time: float
    times: Array
    positions: Array


@dataclass
class Reply:
    """A service's answer, once it is ``done``."""

    done: bool = False
    success: bool = False
    text: str = ""


class Hub(Protocol):
    """What a checkup sees of the graph and does in it. Times are s of one clock."""

    robot: Robot
    period: float  # of control, s

    @property
    def joints(self) -> Sequence[JointSample]:
        """The newest joint states, in the order in which they came."""
        ...

    @property
    def sent(self) -> Sequence[Sent]:
        """All that the safety node sent."""
        ...

    @property
    def pictures(self) -> Mapping[str, Sequence[Picture]]:
        """The newest pictures of each camera."""
        ...

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """The newest camera_info of each camera that has one."""
        ...

    @property
    def robot_description(self) -> str | None:
        """The URDF that is published, if any is."""
        ...

    def now(self) -> float:
        """Return the time."""
        ...

    def publishers(self, topic: str) -> Sequence[Endpoint]:
        """Return who publishes a topic, by its name in the YAML."""
        ...

    def endpoints(self) -> Mapping[str, Sequence[Endpoint]]:
        """Return who hears each command topic."""
        ...

    def enable(self, wanted: bool) -> Reply:
        """Ask the safety node to enable, or to disable, motion."""
        ...

    def clear(self) -> Reply:
        """Ask the safety node to clear an emergency stop."""
        ...

    def press_stop(self) -> None:
        """Press the emergency stop."""
        ...

    def stopped(self) -> bool:
        """Return whether the safety node says that it is stopped."""
        ...

    def command(self, motion: Motion) -> None:
        """Command a motion, through the safety node."""
        ...

    def pause_safety(self, paused: bool) -> str:
        """Halt the safety node's process, or let it go on; return why it can't be, if so."""
        ...

    def ask(self, question: str) -> bool | None:
        """Return a person's answer, None while there is none; say False where nobody can answer."""
        ...


class Checkup:
    """Walks the checklist; ``findings`` grows, and each is handed to ``tell`` as it is made.

    Args:
        hub: the graph.
        tell: takes each finding.
        only: which of ``CHECKS`` to make; what they need is done without being reported.
        ask: whether a person is asked before the robot moves.
        kill_test: whether the safety node's process may be halted.
    """

    def __init__(
        self,
        hub: Hub,
        tell: Callable[[Finding], None],
        *,
        only: Sequence[str] = CHECKS,
        ask: bool = False,
        kill_test: bool = True,
    ) -> None:
        self._hub = hub
        self._robot = hub.robot
        self._tell = tell
        self._only = tuple(only)
        self._ask = ask
        self._kill_test = kill_test
        self._filter = make_filter(hub.robot, period=hub.period)
        self.findings: list[Finding] = []

    def run(self) -> Steps:
        """Go through the checks that were asked for; afterwards the robot is disabled."""
        yield from self._listen()
        wanted = [check for check in MOVING if check in self._only]
        if not wanted:
            return
        # What was found wrong with the pictures is no hindrance.
        against = [f.check for f in self.findings if f.status == FAIL and "camera" not in f.check]
        if not against:
            yield from self._move(wanted)
            return
        for check in wanted:
            self._report(skipped(check, f"the robot is not moved: {', '.join(against)} failed"))

    # --- listening -------------------------------------------------------------------------

    def _listen(self) -> Steps:
        hub, robot = self._hub, self._robot
        begun = hub.now()
        while not hub.joints and hub.now() - begun < PATIENCE:
            yield
        heard = hub.now()
        while hub.now() - heard < LISTEN:
            yield
        publishers = hub.publishers(robot.joint_state_topic)
        self._report(joint_checks.check_joint_states(robot, hub.joints, publishers))
        yield from self._check_times()
        while hub.robot_description is None and hub.now() - heard < LISTEN + 1.0:
            yield
        without = "nobody publishes robot_description: start robot_state_publisher"
        limits = joint_checks.check_limits(robot, hub.robot_description)
        self._report(limits or skipped("limits", without))
        yield from self._check_controllers(begun)
        yield from self._check_cameras(begun)

    def _check_times(self) -> Steps:
        hub, begun = self._hub, self._hub.now()
        if not hub.joints:
            for check in ("stamps", "rate", "clock"):
                self._report(skipped(check, "there are no joint states"))
            return
        stamps = joint_checks.check_stamps(hub.joints)
        self._report(stamps)
        if stamps.status == FAIL:
            for check in ("rate", "clock"):
                self._report(skipped(check, "the stamps are wrong"))
            return
        self._report(joint_checks.check_rate(self._robot, hub.joints))
        while "clock" in self._only and not joint_checks.clock_settled(hub.joints):
            if hub.now() - begun > CLOCK_PATIENCE:
                break
            yield
        self._report(joint_checks.check_clock(hub.joints))

    def _check_controllers(self, begun: float) -> Steps:
        """Wait for the controllers while nothing but their absence is wrong."""
        hub = self._hub
        while not all(hub.endpoints().get(one.topic) for one in self._robot.interfaces):
            if hub.now() - begun > PATIENCE:
                break
            yield
        self._report(check_controllers(self._robot, hub.endpoints()))

    def _check_cameras(self, begun: float) -> Steps:
        hub = self._hub
        if "camera" not in self._only:
            return
        for camera in self._robot.cameras:
            enough = max(FEWEST_PICTURES, round(camera.rate))
            while len(hub.pictures[camera.name]) < enough and hub.now() - begun < PATIENCE:
                yield
            pictures, calibration = hub.pictures[camera.name], hub.calibrations.get(camera.name)
            publishers = hub.publishers(camera.topic)
            self._report(check_camera(camera, pictures, calibration, publishers))

    # --- moving ----------------------------------------------------------------------------

    def _move(self, wanted: Sequence[str]) -> Steps:
        """Everything that may move the robot, up to the first sign that it must not be moved."""
        if "disabled" in wanted:
            yield from self._check_disabled()
        left = [check for check in wanted if check != "disabled"]
        refusal = ""
        if self._failed("disabled"):
            refusal = "it moves although it is disabled"
        elif left and self._ask:
            refusal = yield from self._asked()
        if left and not refusal:
            refusal = yield from self._enable()
        for check, steps in (
            ("motion", self._check_joints),
            ("stop", self._check_stop),
            ("silence", self._check_silence),
            ("timeout", self._check_timeout),
        ):
            if check not in left:
                continue
            if refusal:
                self._report(skipped(check, f"the robot is not moved: {refusal}"))
                continue
            yield from steps()
            if self._failed(check):
                # Whatever is wrong, it is not moved on.
                refusal = f"{check} failed"
        yield from self._wait_for(self._hub.enable(False))

    def _asked(self) -> Generator[None, None, str]:
        """Ask the person at the terminal; return what is against moving the robot."""
        joints = ", ".join(self._robot.joint_names)
        question = (
            f"Each joint of {self._robot.name} ({joints}) will move slowly by up to 2.3 degrees "
            "or 5 mm.\nIs everything out of its way, and an emergency stop at hand? [y/N] "
        )
        while (answer := self._hub.ask(question)) is None:
            yield
        return "" if answer else "nobody said y on a terminal (motion:=true moves it unasked)"

    def _check_disabled(self) -> Steps:
        hub = self._hub
        start, begun, sent = self._here(), hub.now(), len(hub.sent)
        motion = SlowMotion(len(self._robot.arm_joints) - 1, start, 0.04)
        yield from self._drive(motion, STANDING)
        positions = self._since(begun)[1]
        finding = check_standing(self._robot, positions, "disabled", "while disabled")
        if len(hub.sent) > sent:
            finding = failed("disabled", "the safety node sends commands", "is it enabled already?")
        self._report(finding)

    def _enable(self) -> Generator[None, None, str]:
        """Enable motion and see that nothing moves by that; return what is against going on."""
        hub, begun = self._hub, self._hub.now()
        reply = yield from self._wait_for(hub.enable(True))
        if not reply.success:
            wrong = f"safety/enable refuses: {reply.text or 'no answer'}"
            self._report(failed("enable", wrong, "see the log of the safety node"))
            return "it can't be enabled"
        yield from self._wait(STANDING)
        finding = check_standing(
            self._robot, self._since(begun)[1], "enable", "when it should hold still"
        )
        self._report(finding)
        if finding.status == FAIL:
            yield from self._wait_for(hub.enable(False))
            return "it does not hold still"
        return ""

    def _check_joints(self) -> Steps:
        for joint in range(len(self._robot.joint_names)):
            name = self._robot.joint_names[joint]
            motion = choose_motion(self._robot, self._filter, self._told(), joint)
            if motion is None:
                why = (
                    "the safety filter lets it move neither way from here: move the arm away first"
                )
                self._report(skipped(f"motion {name}", why))
                continue
            begun, sent = self._hub.now(), len(self._hub.sent)
            yield from self._drive(motion, motion.duration)
            yield from self._wait(SETTLING)
            finding = check_motion(self._robot, motion, self._track(begun, sent))
            self._report(finding)
            if finding.status == FAIL:
                return

    def _check_stop(self) -> Steps:
        hub = self._hub
        motion = yield from self._run_up("stop")
        if motion is None:
            return
        hub.press_stop()
        pressed = hub.now()
        # The source goes on: a stop that only works on a silent source is none.
        yield from self._drive(motion, WATCHED, begin=RUN_UP - 0.5 * hub.period)
        heard = hub.stopped()
        right = (
            "the safety node heard it: the controller does not obey what it is sent"
            if heard
            else "dead stop button: the safety node did not hear it; connect the button to the "
            "topic emergency_stop (std_msgs/Bool), in the safety node's namespace and ROS domain"
        )
        limit = hub.period + STOPPING
        told = "the emergency stop was pressed"
        finding = check_rest(
            self._robot, "stop", self._since(pressed, zero=True), limit, told=told, right=right
        )
        if finding.status == PASS and not heard:
            finding = failed("stop", "dead stop button: the robot stands, but not by it", right)
        if finding.status == PASS:
            problem = yield from self._go_on()
            if problem:
                finding = failed("stop", problem, "see the log of the safety node", finding.figure)
        self._report(finding)

    def _go_on(self) -> Generator[None, None, str]:
        """Clear the stop and enable; return what went wrong."""
        hub = self._hub
        early = yield from self._wait_for(hub.enable(True))
        if early.success:
            return "safety/enable goes on although the stop was not cleared"
        cleared = yield from self._wait_for(hub.clear())
        enabled = yield from self._wait_for(hub.enable(True))
        if not (cleared.success and enabled.success):
            return f"it does not go on after the stop: {enabled.text or cleared.text}"
        return ""

    def _check_silence(self) -> Steps:
        if (yield from self._run_up("silence")) is None:
            return
        silent = self._hub.now()
        yield from self._wait(WATCHED)
        self._report(
            check_rest(
                self._robot,
                "silence",
                self._since(silent, zero=True),
                SILENCE * self._hub.period + STOPPING,
                told="its commands ended",
                right="the controller does not obey the braking that the safety node sends",
            )
        )

    def _check_timeout(self) -> Steps:
        hub = self._hub
        if not self._kill_test:
            why = "kill_test:=true halts the safety node in a motion, to see the driver stop"
            self._report(skipped("timeout", why))
            return
        if (yield from self._run_up("timeout")) is None:
            return
        problem = hub.pause_safety(True)
        halted = hub.now()
        if not problem:
            yield from self._wait(WATCHED + self._longest_timeout)
            hub.pause_safety(False)
        if problem:
            self._report(skipped("timeout", problem))
            return
        finding = check_rest(
            self._robot,
            "timeout",
            self._since(halted, zero=True),
            self._longest_timeout + hub.period + STOPPING,
            told="the safety node fell silent",
            right="set the driver's own timeout, as the YAML's interfaces: timeout: says",
        )
        self._report(finding)

    # --- parts -----------------------------------------------------------------------------

    @property
    def _longest_timeout(self) -> float:
        return max(interface.timeout for interface in self._robot.interfaces)

    def _run_up(self, check: str) -> Generator[None, None, SlowMotion | None]:
        """Have a joint move, and return in the midst of a period, while its motion goes on.

        Returns None, with a finding, if there is no room for it or it does not come to move.
        """
        for _ in range(TRIES):  # a machine that is busy may have had the robot braked
            motion = self._steady(check)
            if motion is None:
                return None
            yield from self._drive(motion, RUN_UP, last=0.5 * self._hub.period)
            if self._moves(motion):
                return motion
            yield from self._wait(2.0 * SETTLING)
        wrong = "there is no steady motion for it to end"
        self._report(failed(check, wrong, "see the motion of single joints, and how busy it is"))
        return None

    def _moves(self, motion: SlowMotion) -> bool:
        """Whether the motion's joint moved during the last period as it should."""
        hub = self._hub
        _, positions = self._since(hub.now() - hub.period)
        if len(positions) < 2:
            return False
        moved = (positions[-1] - positions[0])[motion.joint] * np.sign(motion.height)
        return bool(moved > 0.3 * abs(motion.height) / motion.duration * hub.period)

    def _steady(self, check: str) -> SlowMotion | None:
        """Return a motion for a stop to end, of the arm's last joint that has room."""
        for joint in reversed(range(len(self._robot.arm_joints))):
            motion = choose_motion(self._robot, self._filter, self._told(), joint, steady=True)
            if motion is not None:
                return motion
        why = "the safety filter lets no joint move from here: move the arm away first"
        self._report(skipped(check, why))
        return None

    def _drive(
        self, motion: SlowMotion, seconds: float, *, begin: float = 0.0, last: float | None = None
    ) -> Steps:
        """Command a motion period by period, from ``begin`` s of it on for so many seconds.

        Returns ``last`` s after the last command, by default at the end of its period.
        """
        hub = self._hub
        started = hub.now()
        for number in range(round(seconds / hub.period)):
            while hub.now() - started < number * hub.period:
                yield
            hub.command(
                motion.command(self._robot.joint_names, begin + number * hub.period, hub.period)
            )
        yield from self._wait(hub.period if last is None else last)

    def _wait(self, seconds: float) -> Steps:
        until = self._hub.now() + seconds
        while self._hub.now() < until:
            yield

    def _wait_for(self, reply: Reply) -> Generator[None, None, Reply]:
        until = self._hub.now() + PATIENCE
        while not reply.done and self._hub.now() < until:
            yield
        return reply

    def _here(self) -> Array:
        """Return where the joints are (n,)."""
        return np.asarray(positions_of(self._robot, [self._hub.joints[-1]])[0])

    def _told(self) -> Array:
        """Return where the joints are told to be (n,): a motion begins there, and nowhere else."""
        if self._hub.sent and self._hub.now() - self._hub.sent[-1].time < self._hub.period * 3.0:
            return np.array(self._hub.sent[-1].positions[-1])
        return self._here()

    def _since(self, begun: float, *, zero: bool = False) -> tuple[Array, Array]:
        """Return times (m,) and positions (m, n) measured since; with ``zero``, counted from it."""
        samples = [sample for sample in self._hub.joints if sample.stamp >= begun]
        times = np.array([sample.stamp for sample in samples])
        return times - (begun if zero else 0.0), positions_of(self._robot, samples)

    def _track(self, begun: float, sent: int) -> Track:
        """Return what was sent since there were ``sent`` messages, and what was measured."""
        parts: list[Sent] = list(self._hub.sent)[sent:]
        times, positions = [np.zeros(0)], [np.empty((0, len(self._robot.joint_names)))]
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            end = np.inf if following is None else following.time
            valid = part.time + part.times < end
            times.append(part.time + part.times[valid])
            positions.append(part.positions[valid])
        measured = self._since(begun)
        return Track(np.concatenate(times), np.concatenate(positions), *measured)

    def _report(self, finding: Finding) -> None:
        if finding.check.split()[0] in self._only or finding.status == FAIL:
            self.findings.append(finding)
            self._tell(finding)

    def _failed(self, check: str) -> bool:
        return any(f.status == FAIL and f.check.split()[0] == check for f in self.findings)
