"""The part of the checklist that moves the robot: joint by joint, and every way to stop it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rl_robot.hardware.driving import Driving
from rl_robot.hardware.findings import FAIL, PASS, Finding, failed, skipped
from rl_robot.hardware.hub import Hub, Steps
from rl_robot.hardware.slow_motion import (
    SlowMotion,
    check_motion,
    check_rest,
    check_standing,
    choose_motion,
    others_moved,
    still,
)
from rl_robot.hardware.watch import TRIES, Watch
from rl_robot.safety.chain import make_filter

MOVING = ("disabled", "enable", "motion", "stop", "silence", "timeout")

STANDING = 0.5  # s of watching that nothing moves
ENABLING = 5.0  # s that the safety node may refuse to enable
SETTLING = 0.2  # s after a motion until it is judged
RUN_UP = 0.5  # s of motion before it is to be stopped
WATCHED = 1.0  # s of watching it come to rest
SILENCE = 2.5  # control periods after which the safety node brakes, at most
STOPPING = 0.35  # s for a slow motion's braking, the drives' lag and the hearing of it


class Moving:
    """Moves the robot slowly, up to the first sign that it must not be moved.

    Args:
        hub: the graph.
        report: takes each finding.
        ask: whether a person is asked first.
        kill_test: whether the safety node's process may be halted.
    """

    def __init__(
        self, hub: Hub, report: Callable[[Finding], None], *, ask: bool, kill_test: bool
    ) -> None:
        self._hub = hub
        self._robot = hub.robot
        self._driving = Driving(hub)
        self._tell = report
        self._ask = ask
        self._kill_test = kill_test
        self._filter = make_filter(hub.robot, period=hub.period)
        self._failures: set[str] = set()
        self._watch = Watch(hub)

    def run(self, wanted: Sequence[str]) -> Steps[None]:
        """Go through the checks that are wanted of ``MOVING``; the robot is disabled at the end."""
        refusal = (yield from self._asked()) if self._ask else ""
        steps = {
            "disabled": lambda: self._repeated(self._check_disabled),
            "motion": lambda: self._watch.over(self._check_joints()),
            "stop": lambda: self._repeated(self._check_stop),
            "silence": lambda: self._repeated(self._check_silence),
            "timeout": lambda: self._repeated(self._check_timeout),
        }
        for check in MOVING:
            if refusal:
                if check in wanted:
                    self._report(skipped(check, f"the robot is not moved: {refusal}"))
            elif check == "enable":
                if set(wanted) != {"disabled"}:
                    refusal = yield from self._enable()
            elif check in wanted:
                yield from steps[check]()
                # Whatever is wrong, it is not moved on.
                refusal = f"{check} failed" if check in self._failures else ""
        yield from self._driving.wait_for(self._hub.enable(False))

    def _repeated(self, check: Callable[[], Steps[Finding]]) -> Steps[None]:
        """Make a check; again where it failed and this machine was held up meanwhile.

        Not where it was not: then no more is risked.
        """
        found: list[Finding] = []

        def once() -> Steps[None]:
            found.append((yield from check()))

        for _ in range(TRIES):
            yield from self._watch.over(once())
            self._watch.note_heard()
            if found[-1].status != FAIL or not self._watch.disturbed:
                break
            yield from self._driving.wait_still(still(self._robot))
        finding = found[-1]
        if len(found) > 1 and finding.status == PASS:
            figure = f"{finding.figure}, try {len(found)}: this machine was held up before"
            finding = replace(finding, figure=figure)
        self._report(finding)

    def _asked(self) -> Steps[str]:
        """Ask the person at the terminal; return what is against moving the robot."""
        joints = ", ".join(self._robot.joint_names)
        question = (
            f"Each joint of {self._robot.name} ({joints}) will move slowly, by up to 3 degrees or "
            "5 mm, and the last of the arm by up to 15 degrees.\n"
            "Is everything out of its way, and an emergency stop at hand? [y/N] "
        )
        while (answer := self._hub.ask(question)) is None:
            yield
        return "" if answer else "nobody said y on a terminal (motion:=true moves it unasked)"

    def _check_disabled(self) -> Steps[Finding]:
        hub = self._hub
        start, begun, sent = self._driving.here(), hub.now(), len(hub.sent)
        motion = SlowMotion(len(self._robot.arm_joints) - 1, start, 0.04)
        yield from self._driving.drive(motion, STANDING)
        positions = self._driving.since(begun)[1]
        finding = check_standing(self._robot, positions, "disabled", "while disabled")
        if len(hub.sent) > sent:
            finding = failed("disabled", "the safety node sends commands", "is it enabled already?")
        return finding

    def _enable(self) -> Steps[str]:
        """Enable motion and see that nothing moves by that; return what is against going on."""
        hub, begun = self._hub, self._hub.now()
        reply = yield from self._driving.wait_for(hub.enable(True))
        # A safety node that has just started may not know yet where the robot is.
        while not reply.success and hub.now() - begun < ENABLING:
            yield from self._driving.wait(SETTLING)
            reply = yield from self._driving.wait_for(hub.enable(True))
        if not reply.success:
            wrong = f"safety/enable refuses: {reply.text or 'no answer'}"
            self._report(failed("enable", wrong, "see the log of the safety node"))
            return "it can't be enabled"
        yield from self._driving.wait(STANDING)
        finding = check_standing(
            self._robot, self._driving.since(begun)[1], "enable", "when it should hold still"
        )
        self._report(finding)
        if finding.status == FAIL:
            yield from self._driving.wait_for(hub.enable(False))
            return "it does not hold still"
        return ""

    def _check_joints(self) -> Steps[None]:
        for joint in range(len(self._robot.joint_names)):
            finding = yield from self._check_joint(joint)
            self._report(finding)
            if finding.status == FAIL:
                return

    def _check_joint(self, joint: int) -> Steps[Finding]:
        """Move one joint; again where it did not as it was told, for a busy machine is a cause too.

        Not where others moved: then no more is risked.
        """
        check = f"motion {self._robot.joint_names[joint]}"
        finding = skipped(check, "not tried")
        for _ in range(TRIES):
            yield from self._driving.wait_still(still(self._robot))
            motion = choose_motion(self._robot, self._filter, self._driving.told(), joint)
            if motion is None:
                return skipped(check, "the safety filter lets it move neither way from here")
            begun, sent = self._hub.now(), len(self._hub.sent)
            yield from self._driving.drive(motion, motion.duration)
            yield from self._driving.wait(SETTLING)
            track = self._driving.track(begun, sent)
            finding = check_motion(self._robot, motion, track)
            if finding.status != FAIL or others_moved(self._robot, motion, track):
                break
        return finding

    def _check_stop(self) -> Steps[Finding]:
        hub = self._hub
        if hub.stopped():  # since a try before
            yield from self._go_on()
        begun = hub.now()
        motion = yield from self._run_up("stop")
        if isinstance(motion, Finding):
            return motion
        hub.press_stop()
        pressed = hub.now()
        # The source goes on: a stop that only works on a silent source is none.
        yield from self._driving.drive(motion, WATCHED, begin=RUN_UP - 0.5 * hub.period)
        self._watch.note_sent(begun)
        heard = hub.stopped()
        right = (
            "the safety node heard it: the controller does not obey what it is sent"
            if heard
            else "dead stop button: the safety node did not hear it; connect the button to the "
            "topic emergency_stop (std_msgs/Bool), in the safety node's namespace and ROS domain"
        )
        finding = check_rest(
            self._robot,
            "stop",
            self._driving.since(pressed, zero=True),
            hub.period + STOPPING,
            told="the emergency stop was pressed",
            right=right,
        )
        if finding.status == PASS and not heard:
            finding = failed("stop", "dead stop button: the robot stands, but not by it", right)
        if finding.status == PASS:
            problem = yield from self._go_on()
            if problem:
                finding = failed("stop", problem, "see the log of the safety node", finding.figure)
        return finding

    def _go_on(self) -> Steps[str]:
        """Clear the stop and enable; return what went wrong."""
        hub = self._hub
        early = yield from self._driving.wait_for(hub.enable(True))
        if early.success:
            return "safety/enable goes on although the stop was not cleared"
        cleared = yield from self._driving.wait_for(hub.clear())
        enabled = yield from self._driving.wait_for(hub.enable(True))
        if not (cleared.success and enabled.success):
            return f"it does not go on after the stop: {enabled.text or cleared.text}"
        return ""

    def _check_silence(self) -> Steps[Finding]:
        begun = self._hub.now()
        motion = yield from self._run_up("silence")
        if isinstance(motion, Finding):
            return motion
        silent = self._hub.now()
        yield from self._driving.wait(WATCHED)
        self._watch.note_sent(begun)
        return check_rest(
            self._robot,
            "silence",
            self._driving.since(silent, zero=True),
            SILENCE * self._hub.period + STOPPING,
            told="its commands ended",
            right="the controller does not obey the braking that the safety node sends",
        )

    def _check_timeout(self) -> Steps[Finding]:
        hub = self._hub
        if not self._kill_test:
            why = "kill_test:=true halts the safety node in a motion, to see the driver stop"
            return skipped("timeout", why)
        motion = yield from self._run_up("timeout")
        if isinstance(motion, Finding):
            return motion
        problem = hub.pause_safety(True)
        halted = hub.now()
        if problem:
            return skipped("timeout", problem)
        yield from self._driving.wait(WATCHED + self._longest_timeout)
        hub.pause_safety(False)
        return check_rest(
            self._robot,
            "timeout",
            self._driving.since(halted, zero=True),
            self._longest_timeout + hub.period + STOPPING,
            told="the safety node fell silent",
            right="set the driver's own timeout, as the YAML's interfaces: timeout: says",
        )

    # --- parts -----------------------------------------------------------------------------

    @property
    def _longest_timeout(self) -> float:
        return max(interface.timeout for interface in self._robot.interfaces)

    def _run_up(self, check: str) -> Steps[SlowMotion | Finding]:
        """Have a joint move, and return in the midst of a period, while its motion goes on.

        Returns what is against it if there is no room for it or it does not come to move.
        """
        for _ in range(TRIES):  # a machine that is busy may have had the robot braked
            motion = self._steady()
            if motion is None:
                why = "the safety filter lets no joint move from here: move the arm away first"
                return skipped(check, why)
            yield from self._driving.drive(motion, RUN_UP, last=0.5 * self._hub.period)
            if self._driving.moves(motion):
                return motion
            yield from self._driving.wait(2.0 * SETTLING)
        wrong = "there is no steady motion for it to end"
        return failed(check, wrong, "see the motion of single joints, and how busy it is")

    def _steady(self) -> SlowMotion | None:
        """Return a motion for a stop to end, of the arm's last joint that has room."""
        for joint in reversed(range(len(self._robot.arm_joints))):
            motion = choose_motion(
                self._robot, self._filter, self._driving.told(), joint, steady=True
            )
            if motion is not None:
                return motion
        return None

    def _report(self, finding: Finding) -> None:
        if finding.status == FAIL:
            self._failures.add(finding.check.split()[0])
            if self._watch.disturbed:
                busy = (
                    f"or this machine is too busy: it was held up for {self._watch.held_up:.2f} s"
                )
                finding = replace(finding, right=f"{finding.right}; {busy}")
        self._tell(finding)
