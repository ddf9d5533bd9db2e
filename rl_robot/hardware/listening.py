"""The part of the checklist that only listens: drivers, clocks, limits, controllers, cameras."""

from collections.abc import Callable, Sequence

from rl_robot.hardware import joint_checks
from rl_robot.hardware.findings import FAIL, Finding, skipped
from rl_robot.hardware.graph_checks import FEWEST_PICTURES, check_camera, check_controllers
from rl_robot.hardware.hub import Hub, Steps
from rl_robot.hardware.watch import TRIES, Watch

LISTENING = ("joint_states", "stamps", "rate", "clock", "limits", "controllers", "camera")

LISTEN = 1.5  # s of joint states, at least
PATIENCE = 12.0  # s for what should be there to come: nodes and discovery take some
CLOCK_PATIENCE = 8.0  # s that ages are collected while they get smaller


class Listening:
    """Checks what the drivers say of themselves, without moving anything."""

    def __init__(self, hub: Hub, report: Callable[[Finding], None], *, only: Sequence[str]) -> None:
        """Look through ``hub`` and ``report`` findings; ``only`` says what is asked for.

        The joint states are always looked at, because everything else needs them.
        """
        self._hub = hub
        self._robot = hub.robot
        self._report = report
        self._only = only

    def run(self) -> Steps[None]:
        """Go through the checks."""
        hub, robot = self._hub, self._robot
        begun = hub.now()
        while not hub.joints and hub.now() - begun < PATIENCE:
            yield
        heard = hub.now()
        yield from self._check_joints()
        while hub.joints and hub.robot_description is None and hub.now() - heard < LISTEN + 1.0:
            yield
        without = "nobody publishes robot_description: start robot_state_publisher"
        limits = joint_checks.check_limits(robot, hub.robot_description)
        self._report(limits or skipped("limits", without))
        yield from self._check_controllers(begun)
        yield from self._check_cameras(begun)

    def _check_joints(self) -> Steps[None]:
        """Judge the joint states; again, others, where this machine did not keep up with them."""
        hub, robot, watch = self._hub, self._robot, Watch(self._hub)
        for number in range(TRIES):
            since = hub.now() if number else 0.0
            yield from watch.over(self._listen())
            samples = [one for one in hub.joints if one.received >= since]
            publishers = hub.publishers(robot.joint_state_topic)
            findings = [joint_checks.check_joint_states(robot, samples, publishers)]
            if samples:
                findings += [joint_checks.check_stamps(samples)]
            if samples and findings[-1].status != FAIL:
                findings += [joint_checks.check_rate(robot, samples)]
            if not watch.disturbed or all(one.status != FAIL for one in findings):
                break
        for finding in findings:
            self._report(finding)
        if len(findings) == 3:
            yield from self._check_clock()
            return
        for check in ("stamps", "rate", "clock")[len(findings) - 1 :]:
            why = "the stamps are wrong" if hub.joints else "there are no joint states"
            self._report(skipped(check, why))

    def _listen(self) -> Steps[None]:
        begun = self._hub.now()
        while self._hub.joints and self._hub.now() - begun < LISTEN:
            yield

    def _check_clock(self) -> Steps[None]:
        hub, begun = self._hub, self._hub.now()
        while "clock" in self._only and not joint_checks.clock_settled(hub.joints):
            if hub.now() - begun > CLOCK_PATIENCE:
                break
            yield
        self._report(joint_checks.check_clock(hub.joints))

    def _check_controllers(self, begun: float) -> Steps[None]:
        """Wait for the controllers while nothing but their absence is wrong."""
        hub = self._hub
        while not all(hub.endpoints().get(one.topic) for one in self._robot.interfaces):
            if hub.now() - begun > PATIENCE:
                break
            yield
        writers = {one.topic: hub.publishers(one.topic) for one in self._robot.interfaces}
        self._report(check_controllers(self._robot, hub.endpoints(), writers))

    def _check_cameras(self, begun: float) -> Steps[None]:
        hub = self._hub
        if "camera" not in self._only:
            hub.close_eyes()
            return
        for camera in self._robot.cameras:
            enough = max(FEWEST_PICTURES, round(camera.rate))
            while len(hub.pictures[camera.name]) < enough and hub.now() - begun < PATIENCE:
                yield
            pictures, calibration = hub.pictures[camera.name], hub.calibrations.get(camera.name)
            publishers = hub.publishers(camera.topic)
            self._report(check_camera(camera, pictures, calibration, publishers))
        hub.close_eyes()
