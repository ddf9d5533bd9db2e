"""What becomes of a topic's messages under each fault, and under any."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.bags.cdr import numbers_bytes
from rl_robot.bags.stamps import header_stamp_ns
from rl_robot.faults.line import FaultyTopic
from rl_robot.faults.plan import (
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Freeze,
    Reorder,
    Stamp,
)

SECOND = 1_000_000_000


def message(number: int) -> bytes:
    """Return a stamped message, unlike any other."""
    return numbers_bytes({"number": float(number)}, number * SECOND)


def number(raw: bytes) -> int:
    return header_stamp_ns(raw) // SECOND


def run(
    faults: list[Fault], times: list[float], *, seed: int = 0, drain: float = math.inf
) -> list[tuple[float, bytes]]:
    """Send a message at each time; return when each that came out was looked for, and itself."""
    line = FaultyTopic("topic", faults, seed=seed)
    out = []
    for place, now in enumerate(times):
        while line.next_due < now:
            at = line.next_due
            out += [(at, raw) for raw in line.release(at)]
        out += [(now, raw) for raw in line.take(now, message(place))]
    while line.next_due < drain:
        at = line.next_due
        out += [(at, raw) for raw in line.release(at)]
    assert (line.heard, line.said) == (len(times), len(out))
    return out


def numbers(out: list[tuple[float, bytes]]) -> list[int]:
    return [number(raw) for _, raw in out]


def steady(count: int) -> list[float]:
    return [0.01 * place for place in range(count)]


times = st.lists(st.floats(0.0, 0.5), max_size=40).map(
    lambda steps: [sum(steps[: place + 1]) for place in range(len(steps))]
)
when = {
    "probability": st.floats(0.0, 1.0),
    "burst": st.integers(1, 5),
    "start": st.floats(0.0, 3.0),
    "until": st.floats(4.0, 20.0),
}
drops = st.builds(Drop, **when)
delays = st.builds(
    Delay,
    seconds=st.floats(0.0, 2.0),
    jitter=st.floats(0.0, 2.0),
    keep_order=st.booleans(),
    **when,
)
duplicates = st.builds(Duplicate, copies=st.integers(1, 4), **when)
reorders = st.builds(Reorder, behind=st.integers(1, 6), within=st.floats(0.0, 2.0), **when)
freezes = st.builds(Freeze, **when)
corruptions = st.builds(Corrupt, bits=st.integers(1, 30), **when)
stamps = st.builds(Stamp, offset=st.floats(-1e6, 1e6), **when)
harmless = st.one_of(drops, delays, duplicates, reorders, freezes)
anything = st.one_of(harmless, corruptions, stamps)
seeds = st.integers(0, 2**32)


@given(times)
def test_without_faults_every_message_passes_as_it_is_and_at_once(times):
    assert run([], times) == [(now, message(place)) for place, now in enumerate(times)]


@given(times, st.lists(anything, max_size=4), seeds)
def test_the_same_seed_gives_the_same_faults(times, faults, seed):
    assert run(faults, times, seed=seed) == run(faults, times, seed=seed)


@given(times, st.lists(harmless, max_size=4), seeds)
def test_no_message_is_invented_and_none_comes_before_it_was_said(times, faults, seed):
    for at, raw in run(faults, times, seed=seed):
        assert raw == message(number(raw))
        assert at >= times[number(raw)]


@given(times, st.lists(st.one_of(delays, reorders), max_size=4), seeds)
def test_what_is_only_delayed_or_overtaken_comes_once(times, faults, seed):
    assert sorted(numbers(run(faults, times, seed=seed))) == list(range(len(times)))


@given(times, st.lists(delays.filter(lambda one: one.keep_order), max_size=3), seeds)
def test_delays_that_keep_the_order_keep_it(times, faults, seed):
    out = numbers(run(faults, times, seed=seed))
    assert out == sorted(out)


@given(times, delays, seeds)
def test_a_delay_lasts_as_long_as_it_says(times, fault, seed):
    longest = fault.seconds + fault.jitter
    for at, raw in run([fault], times, seed=seed):
        said = times[number(raw)]
        if fault.keep_order:  # then those before may hold it up too
            said = max(said, *(times[: number(raw) + 1]))
        assert at <= said + longest + 1e-9


@given(times, reorders, seeds)
def test_a_message_falls_back_behind_as_many_as_are_named(times, fault, seed):
    out = numbers(run([fault], times, seed=seed))
    for place, one in enumerate(out):
        overtaking = sum(other > one for other in out[:place])
        assert overtaking <= fault.behind


@given(times, reorders, seeds)
def test_a_message_that_waits_for_others_does_not_wait_for_ever(times, fault, seed):
    for at, raw in run([fault], times, seed=seed):
        assert at <= times[number(raw)] + fault.within + 1e-9


@given(times, drops, seeds)
def test_what_is_not_dropped_comes_at_once_and_in_order(times, fault, seed):
    out = run([fault], times, seed=seed)
    kept = numbers(out)
    assert kept == sorted(set(kept))
    assert all(at == times[number(raw)] for at, raw in out)
    dropped = set(range(len(times))) - set(kept)
    assert all(fault.start <= times[one] < fault.until for one in dropped)


@given(times, duplicates, seeds)
def test_duplicates_follow_their_original(times, fault, seed):
    out = numbers(run([fault], times, seed=seed))
    assert out == sorted(out)
    assert set(Counter(out).values()) <= {1, 1 + fault.copies}


@given(times, st.booleans(), seeds, st.data())
def test_what_is_frozen_holds_the_contents_of_one_before(times, restamp, seed, data):
    fault = data.draw(st.builds(Freeze, restamp=st.just(restamp), **when))
    out = run([fault], times, seed=seed)
    assert [at for at, _ in out] == times
    contents = [int.from_bytes(raw[12:], "little") for _, raw in out]
    sent = [int.from_bytes(message(place)[12:], "little") for place in range(len(times))]
    for place, seen in enumerate(contents):
        assert seen == sent[place] or (place and seen == contents[place - 1])
    if restamp:
        assert numbers(out) == list(range(len(times)))


@given(times, corruptions, seeds)
def test_bits_are_flipped_and_none_added(times, fault, seed):
    for place, (_, raw) in enumerate(run([fault], times, seed=seed)):
        good = message(place)
        assert len(raw) == len(good)
        assert raw[:4] == good[:4]
        flipped = sum((one ^ other).bit_count() for one, other in zip(raw, good, strict=True))
        assert flipped <= fault.bits


@given(times, stamps, seeds)
def test_stamps_are_moved_and_nothing_else(times, fault, seed):
    for place, (_, raw) in enumerate(run([fault], times, seed=seed)):
        good = message(place)
        assert raw[:4] + raw[12:] == good[:4] + good[12:]
        moved = header_stamp_ns(raw) - header_stamp_ns(good)
        assert moved in (0, round(fault.offset * 1e9))


def test_a_stamp_is_not_moved_beyond_what_it_can_say():
    faults = [Stamp(offset=1e9)] * 3
    (at, raw) = run(faults, [0.0])[0]
    assert at == 0.0
    assert header_stamp_ns(raw) // SECOND == 2**31 - 1


def test_the_rate_is_the_probability():
    out = run([Drop(probability=0.2)], steady(5000))
    assert len(out) / 5000 == pytest.approx(0.8, abs=0.02)
    line = FaultyTopic("topic", [Duplicate(probability=0.1), Drop(probability=0.5)], seed=1)
    for place, now in enumerate(steady(5000)):
        line.take(now, message(place))
    assert line.counts["duplicate"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert line.counts["drop"] / 5500 == pytest.approx(0.5, abs=0.03)


def test_a_burst_takes_as_many_in_a_row_as_it_says():
    lost = set(range(2000)) - set(numbers(run([Drop(probability=0.01, burst=7)], steady(2000))))
    kept = sorted(set(range(-1, 2001)) - lost)
    gaps = {later - before - 1 for before, later in pairwise(kept)} - {0}
    assert gaps
    assert all(gap % 7 == 0 for gap in gaps)


def test_a_fault_has_its_time():
    assert numbers(run([Drop(start=0.1, until=0.3)], steady(50))) == [
        place for place, now in enumerate(steady(50)) if not 0.1 <= now < 0.3
    ]


def test_chance_belongs_to_the_messages_of_a_topic():
    faults = [Drop(probability=0.5)]
    quick, slow = run(faults, steady(100)), run(faults, [float(place) for place in range(100)])
    assert numbers(quick) == numbers(slow)
    assert numbers(quick) != numbers(run(faults, steady(100), seed=1))
    other = FaultyTopic("other", faults, seed=0)
    assert numbers(quick) != [
        number(raw) for now in steady(100) for raw in other.take(now, message(round(100 * now)))
    ]


def test_all_that_wait_behind_one_swap_in_pairs():
    assert numbers(run([Reorder()], steady(6))) == [1, 0, 3, 2, 5, 4]


def test_a_frozen_stretch_repeats_what_came_before_it():
    assert numbers(run([Freeze(start=0.025, until=0.055)], steady(8))) == [0, 1, 2, 2, 2, 2, 6, 7]


def test_faults_follow_one_another_as_in_the_file():
    later = Delay(seconds=1.0)
    lost = Drop(start=0.5, until=1.5)
    assert numbers(run([later, lost], [0.0])) == []
    assert numbers(run([lost, later], [0.0])) == [0]


def test_what_to_put_into_a_message_is_asked_of_whom_knows_its_type():
    asked = []

    def alter(raw, what, _luck):
        asked.append(what)
        return raw + b"!"

    line = FaultyTopic("topic", [Corrupt(what="nan")], seed=0, alter=alter)
    assert line.take(0.0, b"1234") == [b"1234!"]
    assert asked == ["nan"]
    with pytest.raises(ValueError, match="nan"):
        FaultyTopic("topic", [Corrupt(what="nan")], seed=0).take(0.0, b"1234")
