"""Aligned episodes against a world that knows the truth, however late its messages come.

Every quantity of the world is a known function of time. Sensors sample it at rates of their own;
their messages arrive up to 0.2 s late, so that they overtake each other and are recorded in the
order of arrival. At each tick what the aligner says must be what the world was at the moment of
capture that it names, and that moment must be the newest until the tick.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from rl_robot.bags import typestore
from rl_robot.bags.cdr import image_bytes, joint_state_bytes, pose_bytes, trajectory_bytes
from rl_robot.errors import UserError
from rl_robot.experience.aligned import AlignedEpisode
from rl_robot.experience.aligning import align
from rl_robot.experience.bag_map import BagMap, Source
from rl_robot.robots.cartesian import Motion

SECOND = 10**9
EPOCH_NS = 1_700_000_000 * SECOND
JOINTS = tuple(f"j{i}" for i in range(7))
TYPES = {
    "/joints": "sensor_msgs/msg/JointState",
    "/hand": "geometry_msgs/msg/PoseStamped",
    "/eye": "sensor_msgs/msg/Image",
    "/command": "trajectory_msgs/msg/JointTrajectory",
    "/verdict": "sensor_msgs/msg/JointState",
}
MAP = BagMap(
    observations={
        "joints": Source("/joints", fields=("position", "velocity")),
        "hand": Source("/hand"),
        "eye": Source("/eye", size=(4, 4)),
    },
    action=Source("/command"),
    reward=Source("/verdict"),
    period=0.1,
)


def joints_at(stamp_ns: int) -> np.ndarray:
    """The true joint positions: each its own function of time, with no two moments alike."""
    return np.sin((stamp_ns - EPOCH_NS) * 1e-9 * np.arange(1.0, 8.0)) + (stamp_ns - EPOCH_NS) * 1e-9


def hand_at(stamp_ns: int) -> np.ndarray:
    return np.array([1.0, 2.0, 3.0]) * (stamp_ns - EPOCH_NS) * 1e-9


def eye_at(stamp_ns: int) -> np.ndarray:
    """A picture that shows its moment, in milliseconds."""
    milliseconds = (stamp_ns - EPOCH_NS) // 10**6
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0, 0] = [milliseconds >> 16 & 255, milliseconds >> 8 & 255, milliseconds & 255]
    return picture


def shown(picture: np.ndarray) -> int:
    high, middle, low = (int(part) for part in picture[0, 0])
    return ((high << 16) + (middle << 8) + low) * 10**6 + EPOCH_NS


@dataclass
class World:
    """What was captured, and what arrived when."""

    captured: dict[str, list[int]] = field(default_factory=dict)
    arrivals: list[tuple[int, int, str, bytes]] = field(default_factory=list)

    def say(self, topic: str, stamp_ns: int, arrives_ns: int, raw: bytes) -> None:
        self.captured.setdefault(topic, []).append(stamp_ns)
        self.arrivals.append((arrives_ns, len(self.arrivals), topic, raw))

    def write(self, path: Path) -> Path:
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            topics = {
                t: writer.add_connection(t, k, typestore=typestore()) for t, k in TYPES.items()
            }
            for arrives_ns, _, topic, raw in sorted(self.arrivals):
                writer.write(topics[topic], arrives_ns, raw)
        return path


def simulate(
    seed: int,
    *,
    seconds: float = 4.0,
    most_delay: float = 0.2,
    loss: float = 0.0,
    rates: Sequence[float] = (100.0, 30.0, 15.0),
) -> World:
    chance = random.Random(seed)
    world = World()

    def delay() -> int:
        return round(chance.uniform(0.0, most_delay) * SECOND)

    def moments(rate: float) -> list[int]:
        """Not quite even, as timers are."""
        steps = int(seconds * rate)
        return [
            EPOCH_NS + round((step + chance.uniform(0.0, 0.3)) / rate * SECOND)
            for step in range(steps)
        ]

    for stamp in moments(rates[0]):
        if chance.random() >= loss:
            at = joints_at(stamp)
            world.say("/joints", stamp, stamp + delay(), joint_state_bytes(JOINTS, stamp, at, -at))
    for stamp in moments(rates[1]):
        if chance.random() >= loss:
            raw = pose_bytes(stamp, "base", hand_at(stamp), (0.0, 0.0, 0.0, 1.0))
            world.say("/hand", stamp, stamp + delay(), raw)
    for stamp in moments(rates[2]):
        if chance.random() >= loss:
            moment = stamp // 10**6 * 10**6
            raw = image_bytes(eye_at(moment), moment, "eye")
            world.say("/eye", moment, moment + delay(), raw)
    for index, stamp in enumerate(moments(10.0)):
        motion = Motion(JOINTS, np.array([0.1]), np.full((1, 7), float(index)))
        world.say("/command", stamp, stamp + delay(), trajectory_bytes(motion, stamp))
        verdict = joint_state_bytes(("total",), stamp, [float(index)])
        world.say("/verdict", stamp, stamp + delay(), verdict)
    return world


def newest(stamps: Sequence[int], until: int) -> int | None:
    return max((stamp for stamp in stamps if stamp <= until), default=None)


def check_against_truth(world: World, episode: AlignedEpisode) -> None:
    topics = {"joints": "/joints", "hand": "/hand", "eye": "/eye"}
    for row, tick in enumerate(episode.ticks_ns.tolist()):
        moments = {}
        for name, topic in topics.items():
            captured = newest(world.captured[topic], tick)
            assert captured is not None
            moments[name] = captured
            age = episode.ages[name][row]
            assert age >= 0.0
            assert age == (tick - captured) * 1e-9
        truth = joints_at(moments["joints"])
        np.testing.assert_array_equal(
            episode.observations["joints"][row], np.float32([*truth, *-truth])
        )
        np.testing.assert_array_equal(
            episode.observations["hand"][row, :3], np.float32(hand_at(moments["hand"]))
        )
        assert shown(episode.observations["eye"][row]) == moments["eye"]
    commands = world.captured["/command"]
    for step, (tick, following) in enumerate(
        zip(episode.ticks_ns[:-1].tolist(), episode.ticks_ns[1:].tolist(), strict=True)
    ):
        done = newest(commands, following - 1)
        assert done is not None
        np.testing.assert_array_equal(episode.action[step], float(commands.index(done)))
        judged = newest(world.captured["/verdict"], following)
        if judged is None or judged <= tick:
            assert np.isnan(episode.rewards[step])
        else:
            assert episode.rewards[step] == world.captured["/verdict"].index(judged)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    most_delay=st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.2]),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_no_observation_is_from_after_its_tick_and_ages_are_exact(
    tmp_path_factory: pytest.TempPathFactory, seed: int, most_delay: float, loss: float
) -> None:
    world = simulate(seed, most_delay=most_delay, loss=loss)
    [episode] = align(world.write(tmp_path_factory.mktemp("world") / "bag"), MAP)
    assert len(episode) > 20
    check_against_truth(world, episode)
    if most_delay == 0.0:
        assert not any("reordered" in kind for kind in episode.counts)


def test_late_messages_are_counted(tmp_path: Path) -> None:
    [episode] = align(simulate(1).write(tmp_path / "bag"), MAP)
    assert episode.counts["joints: reordered"] > 100
    assert episode.truncated
    assert not episode.terminated
    assert episode.origin == str(tmp_path / "bag")


def test_the_order_of_recording_does_not_matter(tmp_path: Path) -> None:
    prompt, late = simulate(5, most_delay=0.0), simulate(5, most_delay=0.0)
    chance = random.Random(3)
    late.arrivals = [
        (EPOCH_NS + chance.randrange(SECOND // 2) + stamp - EPOCH_NS, *rest)
        for stamp, *rest in late.arrivals
    ]
    [one] = align(prompt.write(tmp_path / "prompt"), MAP)
    [other] = align(late.write(tmp_path / "late"), MAP)
    for name in one.observations:
        np.testing.assert_array_equal(one.observations[name], other.observations[name])
        np.testing.assert_array_equal(one.ages[name], other.ages[name])
    np.testing.assert_array_equal(one.action, other.action)


def test_a_silence_is_a_gap(tmp_path: Path) -> None:
    """Nothing of the joints for half a second: ticks end there, and one step is none."""
    world = simulate(2, most_delay=0.0)
    silent = (EPOCH_NS + SECOND, EPOCH_NS + SECOND * 3 // 2)
    world.arrivals = [
        arrival
        for arrival in world.arrivals
        if not (arrival[2] == "/joints" and silent[0] < arrival[0] < silent[1])
    ]
    world.captured["/joints"] = [
        stamp for stamp in world.captured["/joints"] if not silent[0] < stamp < silent[1]
    ]
    [episode] = align(world.write(tmp_path / "bag"), MAP)
    [gap] = episode.gaps
    assert 0.2e9 < episode.ticks_ns[gap + 1] - episode.ticks_ns[gap] < 0.5e9
    assert episode.ages["joints"].max() < 0.25
    assert episode.counts["gaps"] == 1
    check_against_truth(world, episode)


def test_an_observation_that_is_too_old_makes_gaps(tmp_path: Path) -> None:
    world = simulate(2, most_delay=0.0)
    strict = replace(
        MAP,
        observations={**MAP.observations, "eye": replace(MAP.observations["eye"], max_age=0.05)},
    )
    [episode] = align(world.write(tmp_path / "bag"), strict)
    stale = episode.ages["eye"] > 0.05
    assert stale.any()
    expected = [i for i in range(len(episode)) if stale[i] or stale[i + 1]]
    assert list(episode.gaps) == expected


@pytest.mark.parametrize(("rate", "jitter"), [(10.0, 0.005), (10.0, 0.001), (5.0, 0.0)])
def test_a_grid_goes_on_where_the_reference_jitters_or_is_slower(
    tmp_path: Path, rate: float, jitter: float
) -> None:
    """A tick needs nothing new: the newest is then a little older, and says so."""
    chance = random.Random(0)
    world = World()
    for step in range(round(20 * rate)):
        stamp = EPOCH_NS + round((step / rate + chance.uniform(-jitter, jitter)) * SECOND)
        at = joints_at(stamp)
        world.say("/joints", stamp, stamp, joint_state_bytes(JOINTS, stamp, at, -at))
    for step in range(200):
        stamp = EPOCH_NS + step * SECOND // 10 + 1
        motion = Motion(JOINTS, np.array([0.1]), np.full((1, 7), float(step)))
        world.say("/command", stamp, stamp, trajectory_bytes(motion, stamp))
    only = replace(MAP, observations={"joints": MAP.observations["joints"]}, reward=None)
    [episode] = align(world.write(tmp_path / "bag"), only)
    assert len(episode) >= 196
    assert episode.gaps == ()
    assert episode.ages["joints"].max() <= 1.0 / rate + 2 * jitter


def test_only_gaps_are_no_episode(tmp_path: Path) -> None:
    strict = replace(MAP, observations={"eye": replace(MAP.observations["eye"], max_age=1e-6)})
    bag = simulate(3, most_delay=0.0).write(tmp_path / "bag")
    with pytest.raises(UserError, match="holds no whole step"):
        align(bag, replace(strict, ticks="/joints", period=0.01))


def test_a_simulations_clock_begins_at_0(tmp_path: Path) -> None:
    """Its bag is recorded by the wall's clock: a stamp of 0 is none of that."""
    world, shifted = simulate(3, most_delay=0.0), World()
    first = min(stamp for stamps in world.captured.values() for stamp in stamps)
    for arrives, _, topic, raw in world.arrivals:
        sec = int.from_bytes(raw[4:8], "little") - EPOCH_NS // SECOND
        shifted.say(topic, 0, arrives, raw[:4] + sec.to_bytes(4, "little") + raw[8:])
    stamp_0 = joint_state_bytes(JOINTS, 0, joints_at(EPOCH_NS), -joints_at(EPOCH_NS))
    shifted.say("/joints", 0, first - 1, stamp_0)
    [episode] = align(shifted.write(tmp_path / "bag"), MAP)
    assert len(episode) > 30
    assert episode.ticks_ns[0] < SECOND
    assert not any("unstamped" in kind or "restarts" in kind for kind in episode.counts)


@pytest.mark.parametrize("ahead_s", [5, 10_000])
def test_a_first_message_from_the_future_is_left_out(tmp_path: Path, ahead_s: int) -> None:
    world = simulate(6, most_delay=0.0)
    stamp = EPOCH_NS + ahead_s * SECOND
    raw = joint_state_bytes(JOINTS, stamp, np.zeros(7), np.zeros(7))
    world.arrivals.append((EPOCH_NS - 1, 0, "/joints", raw))
    [episode] = align(world.write(tmp_path / "bag"), MAP)
    assert episode.counts["joints: ahead"] == 1
    check_against_truth(world, episode)


def test_rewards_without_stamps_judge_the_observation_before_them(tmp_path: Path) -> None:
    """Float64 and Bool have no header: they are recorded 5 ms after what they speak of."""
    path = tmp_path / "bag"
    kinds = {
        "/joints": TYPES["/joints"],
        "/command": TYPES["/command"],
        "/score": "std_msgs/msg/Float64",
        "/done": "std_msgs/msg/Bool",
    }
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {t: writer.add_connection(t, k, typestore=typestore()) for t, k in kinds.items()}
        for step in range(7):
            stamp = EPOCH_NS + step * SECOND // 10
            joints = joint_state_bytes(JOINTS, stamp, joints_at(stamp), joints_at(stamp))
            writer.write(topics["/joints"], stamp, joints)
            if step:
                score = b"\0\1\0\0" + np.float64(step).tobytes()
                writer.write(topics["/score"], stamp + 5_000_000, score)
                done = b"\0\1\0\0" + bytes([step == 6])
                writer.write(topics["/done"], stamp + 5_000_000, done)
            motion = Motion(JOINTS, np.array([0.1]), np.zeros((1, 7)))
            writer.write(topics["/command"], stamp + 8_000_000, trajectory_bytes(motion, stamp))
    found = BagMap(
        observations={"joints": Source("/joints")},
        action=Source("/command"),
        reward=Source("/score"),
        terminated=Source("/done"),
        ticks="/joints",
    )
    [episode] = align(path, found)
    assert episode.rewards.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert (episode.terminated, episode.truncated) == (True, False)


def test_a_restarted_clock_makes_two_episodes(tmp_path: Path) -> None:
    """The robot's clock goes back to the start after four seconds; recording goes on."""
    first, second = simulate(7, most_delay=0.0), simulate(8, most_delay=0.0)
    later = [
        (arrives + 10 * SECOND, order, topic, raw) for arrives, order, topic, raw in second.arrivals
    ]
    both = World(arrivals=[*first.arrivals, *later])
    episodes = align(both.write(tmp_path / "bag"), MAP)
    assert len(episodes) == 2
    check_against_truth(first, episodes[0])
    check_against_truth(second, episodes[1])
    assert sum(episode.counts.get("joints: restarts", 0) for episode in episodes) == 1


def test_ticks_at_a_topic(tmp_path: Path) -> None:
    world = simulate(4)
    [episode] = align(world.write(tmp_path / "bag"), replace(MAP, ticks="/eye", period=0.0))
    assert set(episode.ticks_ns.tolist()) <= set(world.captured["/eye"])
    assert not episode.ages["eye"].any()
    check_against_truth(world, episode)


def test_a_known_latency_of_a_sensor_is_taken_off(tmp_path: Path) -> None:
    """The camera stamps its pictures 30 ms late: with the offset they are as old as they are."""
    world = simulate(4, most_delay=0.0)
    corrected = replace(
        MAP,
        observations={"eye": replace(MAP.observations["eye"], offset_ns=-30_000_000)},
        ticks="/joints",
        period=0.01,
    )
    [episode] = align(world.write(tmp_path / "bag"), corrected)
    for row, tick in enumerate(episode.ticks_ns.tolist()):
        moment = shown(episode.observations["eye"][row])
        assert moment == newest(world.captured["/eye"], tick + 30_000_000)
        assert episode.ages["eye"][row] == (tick - moment + 30_000_000) * 1e-9


def test_a_clock_that_jumps_ahead_costs_nothing(tmp_path: Path) -> None:
    """From 1970 to today, as computers without a battery do: no ticks for the years between."""
    first, second = simulate(7, seconds=1.0, most_delay=0.0), simulate(8, most_delay=0.0)
    shifted = World()
    for topic in TYPES:
        shifted.captured[topic] = []
    for arrives, _, topic, raw in first.arrivals:
        sec = int.from_bytes(raw[4:8], "little") - EPOCH_NS // SECOND
        early = raw[:4] + sec.to_bytes(4, "little") + raw[8:]
        shifted.say(topic, arrives - EPOCH_NS, arrives - 10 * SECOND, early)
    both = World(arrivals=[*shifted.arrivals, *second.arrivals])
    [episode] = align(both.write(tmp_path / "bag"), MAP)
    assert len(episode) < 60
    assert len(episode.gaps) == 1


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    bag = simulate(4).write(tmp_path / "bag")
    with pytest.raises(UserError, match=r"has no messages on touch: it has command, eye, hand"):
        align(bag, replace(MAP, action=Source("/touch")))
    with pytest.raises(
        UserError, match=r"joints: of its \d+ messages none can be used: .*no torque"
    ):
        align(bag, replace(MAP, observations={"a": Source("/joints", fields=("torque",))}))
