"""safety: the arbiter and the only writer to the robot.

One source moves the robot at a time; whatever it sends passes the checks and the filter, and where
it can't get on, recovery takes its place for a while. Paced, one
command is executed for each tick, once the supervisor has decided the tick; at real time commands
are forwarded as they arrive and a steady timer brakes when none does. Disabled at real time, or
without joint states, it brakes to rest and then sends nothing. Not safety-rated.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from rl_robot.bags.cdr import numbers_bytes, read_joint_state, trajectory_bytes
from rl_robot.errors import UserError
from rl_robot.robots.cartesian import Motion
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics
from rl_robot.ros.mailbox import Mailbox
from rl_robot.ros.messages import (
    numbers,
    stamp_ns,
    trajectory_times,
)
from rl_robot.ros.node import GraphNode, run
from rl_robot.ros.observer import episode_of
from rl_robot.ros.pace import parse_pace
from rl_robot.ros.parameters import read_parameters
from rl_robot.ros.writers import Writers
from rl_robot.safety.arbiter import SOURCES, TAKE_OVER, Arbiter
from rl_robot.safety.chain import make_filter, make_recovery, parse_off
from rl_robot.safety.checks import CommandRefused, RawCommand, check_command
from rl_robot.safety.seat import Seat
from rl_robot.safety.unsafe import Unsafe
from rl_robot.supervision.session import BROKEN, ENDED, RESETTING, RUNNING, Episode
from rl_robot.tasks import load_task

# Part of a control period that deciding may take; many times what it does.
HELD_UP = 0.2
# When this process ends its timers are over: so often (s) streams go on to the end of the braking,
# which takes far less than the s after which they are broken off.
LAST_TICK, LAST_WORDS = 0.004, 1.5
HOLD = "hold"  # the source of what safety sends of its own accord
RECOVERY = "recovery"  # the same where it brings the robot back from an unsafe state

# A latched subscription hears a stop that was pressed before this node started, but DDS connects it
# to latched publishers only; the others hear every button, however it publishes.
STOP_QUALITIES = (
    topics.EMERGENCY_STOP.quality.profile(),
    QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE),
    QoSProfile(
        depth=10,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    ),
)


@dataclass(frozen=True)
class Parameters:
    """Parameters of the safety node."""

    robot: str = "arm"
    task: str = "grasp"
    pace: str = "1.0"
    enabled: bool = False  # simulations start enabled, hardware by the service safety/enable
    max_age: float = 2.5  # control periods
    max_future: float = 0.02  # s that a stamp may lie ahead of this node's clock
    watchdog: float = 5.0  # s of wall time after which a paced tick goes on with a hold
    safety_off: str = ""  # constraints that are not kept, for ablations in simulation
    supervisor_silence: float = 2.0  # s of wall time after which a running episode counts as over
    dry_run: bool = False  # nothing is sent to the controllers: see rl_robot/ros/writers.py
    replayed: bool = False  # paced, each episode begins anew where its joint states say: see player


@dataclass(frozen=True)
class Received:
    """A command as it came, and when (s of the node's steady clock)."""

    message: JointTrajectory
    at: float
    stamp_ns: int


class SafetyNode(GraphNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("safety")
        given = read_parameters(self, Parameters)
        self._robot = load_robot(given.robot)
        self._period = load_task(given.task).period
        self._period_ns = round(self._period * 1e9)
        self._factor = parse_pace(given.pace)
        self._max_age = given.max_age * self._period
        # A simulation that runs faster than the wall clock gains as much on this node's clock.
        self._max_future = given.max_future * max(1.0, self._factor or 1.0)
        self._watchdog = given.watchdog
        # Simulated at a small factor, ticks are far apart: a few may always be missing.
        silence = given.supervisor_silence * (self._factor or 1.0)
        self._max_silence = max(silence, 5.0 * self._period)
        off = parse_off(given.safety_off)
        self._filter = make_filter(self._robot, period=self._period, off=off)
        self._recovery = make_recovery(self._robot, self._filter, off=off)
        if off:
            self.health["off"] = ", ".join(off)
        self._seat = Seat(self._filter, period=self._period, max_age=self._max_age)
        self._seated_ns = 0
        self._arbiter = Arbiter()
        if given.enabled:
            self._arbiter.enable()
        self._replayed = given.replayed
        self._began_in = -1  # the replayed episode that was begun anew
        self._episode: Episode | None = None
        self._episode_at = 0.0
        self._decided_ns = 0
        self._commands: dict[str, Received] = {}
        self._joint_ns = 0
        self._executed_ns = 0
        self._sent_at = 0.0
        self._sent_source = HOLD
        self._progress_at = self._now()
        self._counts = {"executed": 0, "held": 0, "refused": 0, "interventions": 0, "lost": 0}

        self._dry_run = given.dry_run
        if given.dry_run and self._factor is None:
            raise UserError("dry_run is for a real robot, which runs at pace 1.0")
        if given.dry_run:
            self.health["dry_run"] = "true: nothing is sent to the controllers"
        self._writers = Writers(
            self,
            self._robot,
            period=self._period,
            factor=self._factor,
            now=self._now,
            patience=HELD_UP * self._period,
            dry_run=given.dry_run,
            moving=not given.replayed,
        )
        self._command = self.publisher(topics.SAFETY_COMMAND)
        self._margins = self.publisher(topics.SAFETY_MARGINS)
        self._interventions = self.publisher(topics.SAFETY_INTERVENTIONS)
        self._joint_letters: Mailbox | None = None
        if self._factor is None:  # paced, they are needed when a tick is executed, and only then
            self._joint_letters = self.mailbox(topics.JOINT_STATES, depth=20)
        else:
            self.listen(topics.JOINT_STATES, self._take_joints, depth=1)
        self.listen(topics.EPISODE, self._take_episode, depth=5)
        self.listen(topics.EPISODE_TICK, self._take_decision, depth=2)
        for quality in STOP_QUALITIES:
            self._listen_for_stops(quality)
        for source in SOURCES:
            self.create_subscription(
                JointTrajectory,
                f"{source}/command",
                partial(self._take_command, source),
                topics.COMMAND.profile(1),
            )
        self.create_service(SetBool, "safety/enable", self._enable)
        self.create_service(Trigger, "safety/emergency_stop", self._stop)
        self.create_service(Trigger, "safety/clear", self._clear)
        if self._factor is None:
            self.every(0.2, self._watch_handshake)
        else:
            self.every(0.25 * self._period / self._factor, self._watch_commands)

    # --- what is heard ---------------------------------------------------------------------

    def _listen_for_stops(self, quality: QoSProfile) -> None:
        # That one of the subscriptions does not match a publisher is nothing to report.
        silent = SubscriptionEventCallbacks(use_default_callbacks=False)
        topic = topics.EMERGENCY_STOP
        self.create_subscription(
            topic.type, topic.name, self._take_stop, quality, event_callbacks=silent
        )

    def _take_joints(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=False))
        efforts = dict(zip(message.name, message.effort, strict=False))
        self._measure(stamp_ns(message), positions, efforts)

    def _measure(
        self, stamp: int, positions: Mapping[str, float], efforts: Mapping[str, float]
    ) -> None:
        try:
            measured = np.array([positions[name] for name in self._robot.joint_names])
        except KeyError as missing:
            self.problem(f"joint_states: joint {missing} is missing")
            return
        if not np.isfinite(measured).all():
            self.problem("joint_states: a position is not finite")
            return
        if stamp < self._joint_ns - self._period_ns:
            self._start_again("the clock of joint_states was set back")
        age = self._age(stamp)
        if not -self._max_future <= age <= self._max_age:
            self.problem(f"joint_states: captured {age:.3f} s ago by this clock, not relied on")
            return
        self._joint_ns = stamp
        self.health["unheard"] = ""
        names = self._robot.joint_names
        self._filter.measure(measured, np.array([efforts.get(name, np.nan) for name in names]))
        self._recovery.measure(measured)
        self._seat.measure(measured, self._now() - max(age, 0.0))
        self._writers.measure(measured, self._now() - max(age, 0.0))
        # At real time a disabled robot is left alone: it may be moved by hand meanwhile.
        if not self._seat.seated and (self._factor is None or self._arbiter.enabled):
            self._sit()

    def _age(self, stamp: int) -> float:
        """Return how long ago something was captured, in s; paced, now.

        What a process says that was halted for a while may be long past when it arrives.
        """
        return 0.0 if self._factor is None else (self._now_ns() - stamp) * 1e-9

    def _empty_mailbox(self) -> None:
        """Paced: take the newest joint state."""
        letters = self._joint_letters.take() if self._joint_letters else []
        if letters:
            try:
                joints = read_joint_state(letters[-1].raw)
            except ValueError as error:
                self.problem(f"joint_states: {error}")
                return
            positions = dict(zip(joints.names, joints.positions, strict=False))
            efforts = dict(zip(joints.names, joints.efforts, strict=False))
            self._measure(joints.stamp_ns, positions, efforts)

    def _take_episode(self, message: DiagnosticArray) -> None:
        episode = episode_of(self, message)
        if episode is not None:
            self._episode_at = self._now()
            if self._episode is None or episode.phase != self._episode.phase:
                self._progress_at = self._now()
            self._episode = episode
            self._decided_ns = episode.stamp_ns
            if episode.outcome == BROKEN and self._factor is not None:
                # The robot's drivers may have been started again: the next episode waits for them.
                self.health["unheard"] = topics.JOINT_STATES.name
            self._execute_tick()

    def _take_decision(self, message: JointState) -> None:
        try:
            decided = numbers(message).get("id")
        except ValueError as error:
            self.problem(f"episode/tick: {error}")
            return
        if self._episode is not None and decided == self._episode.id:
            self._episode_at = self._now()
            self._decided_ns = max(self._decided_ns, stamp_ns(message))
            self._execute_tick()

    def _take_command(self, source: str, message: JointTrajectory) -> None:
        received = Received(message, self._now(), stamp_ns(message))
        # Who takes over by merely speaking must at least speak sense.
        if source in TAKE_OVER and self._check(source, received) is None:
            return
        self._commands[source] = received
        if self._factor is None:
            self._execute_tick()
        elif source == self._source() and (source in TAKE_OVER or self._recovery.active is None):
            self._execute_now(source, received)

    def _take_stop(self, message: Bool) -> None:
        if message.data:
            self._stop_robot("the topic emergency_stop")

    def _start_again(self, why: str) -> None:
        self.problem(why)
        if self._factor is None:
            self._seat.leave()
        else:
            self._seat.doubt()  # it may be moving
        self._executed_ns = 0
        self._commands.clear()

    def _phase(self) -> str:
        """The episode's phase. At real time it is over when the supervisor fell silent."""
        if self._episode is None:
            return ""
        return ENDED if self._is_silent() else self._episode.phase

    def _is_silent(self) -> bool:
        """Whether, at real time, the supervisor, who speaks once per tick, runs no episode."""
        running = self._episode is not None and self._episode.phase == RUNNING
        silence = self._now() - self._episode_at
        return self._factor is not None and running and silence > self._max_silence

    def _source(self) -> str | None:
        """The source that may move the robot now."""
        if self._episode is None:
            return None
        now = self._now()
        live = [
            source
            for source, received in self._commands.items()
            if now - received.at <= self._max_age
        ]
        return self._arbiter.active_source(self._phase(), live)

    # --- where the robot is ----------------------------------------------------------------

    def _now(self) -> float:
        """Now on a steady clock that runs as fast as the robot's time does; paced, the wall's."""
        return time.monotonic() * (self._factor or 1.0)

    def _elapsed(self) -> float:
        """Seconds of the robot's time since it was sent a motion."""
        if self._factor is None:
            return (self._joint_ns - self._executed_ns) * 1e-9
        return self._writers.elapsed()

    def _sit(self) -> str:
        """Have the filter begin where the robot is; return, and say, what is against it."""
        try:
            self._seat.sit()
        except ValueError as error:
            self.problem(f"joint_states: {error}")
            return f"joint_states: {error}"
        self._recovery.restart()
        if self._factor is not None:
            # Said at once, for the sources' next motions begin where the last one ended.
            self._seated_ns = self._now_ns()
            self._send(None, HOLD, self._seated_ns)
        return ""

    # --- services --------------------------------------------------------------------------

    def _enable(self, request: SetBool.Request, reply: SetBool.Response) -> SetBool.Response:
        if not request.data:
            self._arbiter.disable()
            self._brake()
            reply.success = True
            return reply
        reply.message = "" if self._arbiter.enabled else self._prepare()
        reply.success = not reply.message and self._arbiter.enable()
        return reply

    def _prepare(self) -> str:
        """Get ready to be enabled; return what is against it, if anything is."""
        self._empty_mailbox()
        if self._arbiter.stopped:
            return f"stopped by {self._arbiter.stop_reason}: call safety/clear first"
        if self._factor is not None and not self._seat.fresh(self._now()):
            return "no joint_states are coming: nobody knows where the robot is"
        # Not while it still brakes: it then goes on from there.
        left = not self._seat.seated or self._seat.at_rest(self._elapsed())
        return self._sit() if left and self._seat.measured else ""

    def _stop(self, _: Trigger.Request, reply: Trigger.Response) -> Trigger.Response:
        self._stop_robot("the service safety/emergency_stop")
        reply.success = True
        return reply

    def _stop_robot(self, who: str) -> None:
        self._arbiter.stop(who)
        self._brake()
        self.problem(f"emergency stop by {who}")

    def _clear(self, _: Trigger.Request, reply: Trigger.Response) -> Trigger.Response:
        self._arbiter.clear()
        self._recovery.restart()
        reply.success = True
        reply.message = "cleared: call safety/enable to go on"
        return reply

    # --- paced -----------------------------------------------------------------------------

    def _execute_tick(self) -> None:
        """Paced: execute the pending tick when all that belongs to it has come."""
        episode = self._episode
        if self._factor is not None or episode is None:
            return
        self._empty_mailbox()
        if not self._seat.seated:
            return
        # Stopped or disabled, the tick is still executed, as a hold, so that time goes on.
        awaited = self._source() or self._arbiter.due_source(episode.phase)
        received = self._commands.get(awaited) if awaited else None
        if awaited is None or received is None or received.stamp_ns <= self._executed_ns:
            return
        tick = received.stamp_ns
        decided = episode.phase != RUNNING or self._decided_ns >= tick
        if not decided or self._joint_ns < tick:
            return
        if self._replayed and self._began_in != episode.id:
            self._begin_anew(episode.id)
        if self._arbiter.enabled:
            self._send_checked(awaited, received)
        else:
            self._send(None, HOLD, tick)

    def _begin_anew(self, episode_id: int) -> None:
        """Forget the bag before: in this one the robot was elsewhere, and nobody had stopped it."""
        self._began_in = episode_id
        self._arbiter.clear()
        self._arbiter.enable()
        self._sit()

    def _watch_handshake(self) -> None:
        """Paced: a source that never answers costs a period, not the session."""
        self._execute_tick()  # should its joint state have come after all else
        phase = self._episode.phase if self._episode else ""
        waited = self._now() - max(self._progress_at, self._sent_at)
        due = phase in (RESETTING, RUNNING) and self._joint_ns > self._executed_ns
        if due and self._seat.seated and waited > self._watchdog:
            self.problem(
                f"{phase}: no command within {self._watchdog:g} s, holding one period; "
                f"awaited: {self._awaited()}"
            )
            self._counts["lost"] += 1
            self._send(None, HOLD, self._joint_ns, overseen=self._arbiter.enabled)
        self._report()

    def _awaited(self) -> str:
        """Say what the pending tick still lacks."""
        episode, tick = self._episode, self._joint_ns
        assert episode is not None
        due = self._arbiter.due_source(episode.phase)
        received = self._commands.get(due) if due else None
        lacks = []
        if received is None or received.stamp_ns < tick:
            lacks.append(f"{due}/command")
        if episode.phase == RUNNING and self._decided_ns < tick:
            lacks.append("the supervisor's decision")
        return " and ".join(lacks) or "joint_states"

    # --- at the wall clock's pace ----------------------------------------------------------

    def _execute_now(self, source: str, received: Received) -> None:
        if not self._seat.reliable(self._now()):
            self.problem(f"joint_states stopped: {source}'s command is not executed")
        elif received.stamp_ns < self._seated_ns:
            # Its motion begins where the robot was before safety let go of it.
            self._counts["refused"] += 1
            self.problem(f"{source}: command refused: its capture is older than the robot's start")
        else:
            self._send_checked(source, received)

    def _watch_commands(self) -> None:
        """Brake when nobody may move the robot or has anything to say; let go of it at rest."""
        followed = self._seat.reliable(self._now()) and self._arbiter.enabled
        if self._seat.seated:
            if not followed and self._seat.at_rest(self._elapsed()):
                self._seat.leave()
            elif followed and self._recovery.active is not None:
                # In time for the next period: until then it would begin to brake.
                if self._elapsed() >= 0.75 * self._period:
                    self._send(None, HOLD, self._now_ns(), overseen=True)
            elif self._is_brake_due(followed):
                self._send(None, HOLD, self._now_ns())
        if self._arbiter.enabled:
            self._say_silence()
        self._report()

    def _is_brake_due(self, followed: bool) -> bool:
        if self._sent_source == HOLD:
            return self._elapsed() >= self._period
        late = self._elapsed() >= 1.5 * self._period
        return late or not followed or self._source() is None

    def _say_silence(self) -> None:
        if self._seat.measured and not self._seat.fresh(self._now()):
            self.problem("joint_states stopped: the robot is held")
        elif self._is_silent():
            self.problem("the supervisor is silent: the episode counts as over")

    def _brake(self) -> None:
        """At real time: brake now, whatever was being executed; paced, the next tick is a hold."""
        if self._factor is not None and self._seat.seated and self._sent_source != HOLD:
            self._send(None, HOLD, self._now_ns())

    # --- executing -------------------------------------------------------------------------

    def _now_ns(self) -> int:
        """Now, on the clock of the sensors' stamps; paced, the newest stamp is the present."""
        return self._joint_ns if self._factor is None else self.get_clock().now().nanoseconds

    def _check(self, source: str, received: Received) -> Motion | None:
        """Return a command as a motion; None, counted and said, when it is refused."""
        message = received.message
        raw = RawCommand(
            source,
            received.stamp_ns,
            tuple(message.joint_names),
            trajectory_times(message),
            [list(point.positions) for point in message.points],
        )
        try:
            return check_command(
                raw,
                joints=self._robot.joint_names,
                now_ns=self._now_ns(),
                received_age=0.0 if self._factor is None else self._now() - received.at,
                max_age=self._max_age,
                max_received_age=self._max_age,
                max_future=self._max_future,
            )
        except CommandRefused as refused:
            self._counts["refused"] += 1
            self.problem(f"{source}: command refused: {refused}")
            return None

    def _send_checked(self, source: str, received: Received) -> None:
        """Check a command, then filter and send it; what is refused is never sent."""
        motion, overseen = self._check(source, received), source not in TAKE_OVER
        if motion is not None:
            self._send(motion, source, received.stamp_ns, overseen=overseen)
        elif self._factor is None:
            self._send(None, HOLD, received.stamp_ns, overseen=overseen)

    def _send(
        self, motion: Motion | None, source: str, stamp: int, *, overseen: bool = False
    ) -> None:
        """Filter and send a motion, or recovery's where that has to take the place of it."""
        began = self._now()
        # Nothing is recovered from where the robot does not follow because it is told nothing.
        overseen = overseen and not self._dry_run
        if self._factor is not None:
            # The robot is where the last motion has come by now, not at the end of its period.
            self._filter.interrupt(self._elapsed())
        before, start = self._recovery.active, self._filter.state.positions
        safe = self._recovery.step(motion, overseen=overseen)
        self._tell_recovery(before, source)
        if self._recovery.active is not None:
            source = RECOVERY
        elif overseen and self._recovery.failure:
            source = HOLD
        if not self._publish(start, safe.motion, source, stamp, began):
            self.problem(f"held up for {self._now() - began:.3f} s: {source}'s motion is not sent")
            self._filter.withdraw()
            self._filter.interrupt(self._elapsed())
            start = self._filter.state.positions
            safe, source = self._filter.step(None), HOLD
            self._publish(start, safe.motion, source, stamp, None)
        self._margins.publish(numbers_bytes(safe.margins, stamp))
        if safe.interventions:
            changed = {f"{item.kind}/{item.where}": item.amount for item in safe.interventions}
            self._interventions.publish(numbers_bytes(changed, stamp))
        self._executed_ns = max(self._executed_ns, stamp)
        self._counts["held" if source == HOLD else "executed"] += 1
        self._counts["interventions"] += len(safe.interventions)
        if self._recovery.failure and not self._arbiter.stopped:
            self._stop_robot(self._recovery.failure)

    def _publish(
        self, start: np.ndarray, motion: Motion, source: str, stamp: int, began: float | None
    ) -> bool:
        """Send a motion to the robot, and say so; False if this process was held up since it began.

        The robot is not at the ``start`` (n,) of such a motion any more.
        """
        sent = motion if self._factor is None else self._with_tail(motion)
        # Before the controllers' topics: the recorder files those, which carry no stamp, by it.
        self._command.publish(trajectory_bytes(motion, stamp, source))
        # Asked last, because publishing may take long too, where a reader was halted.
        since = 0.0 if self._factor is None or began is None else self._now() - began
        if since > HELD_UP * self._period:
            return False
        self._sent_at, self._sent_source = self._now(), source
        self._writers.send(start, sent)
        return True

    def _tell_recovery(self, before: Unsafe | None, source: str) -> None:
        """Say that recovery took over; see that what follows it begins where it ended."""
        unsafe = self._recovery.active
        if unsafe is not None and before is None:
            self.problem(f"recovery took over from {source}: {unsafe.kind}, {unsafe.where}")
        elif unsafe is None and before is not None and self._factor is not None:
            self._seated_ns = self._now_ns()

    def _with_tail(self, motion: Motion) -> Motion:
        """Append the braking that follows if nothing comes any more, not even from here."""
        tail = self._filter.tail()
        return Motion(
            motion.names,
            np.concatenate([motion.times, tail.times]),
            np.concatenate([motion.positions, tail.positions]),
        )

    def close(self) -> None:
        """At real time: brake, and stream to its end, for a driver may go on without a word.

        One that is sent trajectories has all of the braking by then.
        """
        try:
            self._brake()
        finally:  # each motion has a braking of its own
            deadline = time.monotonic() + LAST_WORDS
            while self._writers.speaking and time.monotonic() < deadline:
                self._writers.tell()
                time.sleep(LAST_TICK)

    def _report(self) -> None:
        self.health.update({name: str(count) for name, count in self._counts.items()})
        recovering = self._recovery.active is not None
        self.health["source"] = RECOVERY if recovering else self._source() or "none"
        self.health["recoveries"] = str(self._recovery.counts.total())
        self.health |= {f"recoveries_{kind}": str(n) for kind, n in self._recovery.counts.items()}
        self.health["enabled"] = str(self._arbiter.enabled).lower()
        self.health["emergency_stop"] = str(self._arbiter.stopped).lower()


def main(argv: list[str] | None = None) -> int:
    """Run the node."""
    return run(SafetyNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
