"""The part of the checklist that only listens: drivers, clocks, limits, controllers, cameras."""

from collections.abc import Callable, Sequence

from rl_robot.hardware import joint_checks
from rl_robot.hardware.findings import FAIL, Finding, skipped
from rl_robot.hardware.graph_checks import FEWEST_PICTURES, check_camera, check_controllers
from rl_robot.hardware.hub import Hub, Steps

LISTENING = ("joint_states", "stamps", "rate", "clock", "limits", "controllers", "camera")

LISTEN = 2.0  # s of joint states, at least
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
        while hub.joints and hub.now() - heard < LISTEN:
            yield
        publishers = hub.publishers(robot.joint_state_topic)
        self._report(joint_checks.check_joint_states(robot, hub.joints, publishers))
        yield from self._check_times()
        while hub.joints and hub.robot_description is None and hub.now() - heard < LISTEN + 1.0:
            yield
        without = "nobody publishes robot_description: start robot_state_publisher"
        limits = joint_checks.check_limits(robot, hub.robot_description)
        self._report(limits or skipped("limits", without))
        yield from self._check_controllers(begun)
        yield from self._check_cameras(begun)

    def _check_times(self) -> Steps[None]:
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

    def _check_controllers(self, begun: float) -> Steps[None]:
        """Wait for the controllers while nothing but their absence is wrong."""
        hub = self._hub
        while not all(hub.endpoints().get(one.topic) for one in self._robot.interfaces):
            if hub.now() - begun > PATIENCE:
                break
            yield
        self._report(check_controllers(self._robot, hub.endpoints()))

    def _check_cameras(self, begun: float) -> Steps[None]:
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
