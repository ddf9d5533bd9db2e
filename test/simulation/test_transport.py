"""Gazebo's transport: frames, malformed ones, and a master that is a stand-in."""

import socket
import time
from collections.abc import Iterator

import pytest
from fake_gazebo import FakeMaster, FakeMessages
from hypothesis import given
from hypothesis import strategies as st

from rl_robot.errors import LostProgramError
from rl_robot.simulation.gazebo.transport import Frames, MalformedFrameError, Transport, frame

TOPIC, NAME = "~/arm/reply", "/gazebo/default/arm/reply"


@pytest.fixture
def master() -> Iterator[FakeMaster]:
    made = FakeMaster(FakeMessages())
    yield made
    made.close()


@pytest.fixture
def transport(master: FakeMaster) -> Iterator[Transport]:
    opened = Transport(master.messages, master.port)
    yield opened
    opened.close()


@given(payloads=st.lists(st.binary(max_size=40), max_size=6), cuts=st.lists(st.integers(1, 9)))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    frames, found, position = Frames(), [], 0
    for size in [*cuts, len(stream)]:
        found += frames.feed(stream[position : position + size])
        position += size
    found += frames.feed(stream[position:])
    assert found == payloads


@given(st.binary(min_size=8, max_size=8))
def test_what_is_no_length_is_refused(header: bytes) -> None:
    try:
        length = int(header.decode("ascii"), 16) if header.isalnum() else None
    except ValueError:
        length = None
    if length is not None and length <= 100:
        assert Frames(largest=100).feed(header) == ([] if length else [b""])
    else:
        with pytest.raises(MalformedFrameError):
            Frames(largest=100).feed(header)


@pytest.mark.parametrize(
    "header", [b"0x000010", b"-0000001", b" 0000010", b"1_000000", b"7FFFFFFF"]
)
def test_lengths_that_python_would_read_are_refused_too(header: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        Frames().feed(header)


def test_messages_of_a_topic_reach_the_handler(master: FakeMaster, transport: Transport) -> None:
    heard: list[bytes] = []
    # The publisher claims to be on another machine; only this one is ever asked.
    transport.subscribe(TOPIC, "JointAnimation", heard.append, 10.0)
    assert master.ready.wait(10.0)
    assert master.subscriber is not None
    master.subscriber.sendall(frame(b"one") + frame(b"two"))
    transport.wait(lambda: len(heard) == 2, 10.0, "messages")
    assert heard == [b"one", b"two"]


def test_a_master_that_drops_wishes_is_told_again(master: FakeMaster, transport: Transport) -> None:
    master.deaf = 2
    transport.advertise("~/arm/request", "JointAnimation", 20.0)
    transport.publish("~/arm/request", b"question")
    deadline = time.monotonic() + 20.0
    while not master.received and time.monotonic() < deadline:
        time.sleep(0.01)
    assert master.received == [b"question"]


def test_nobody_who_answers_is_said(master: FakeMaster, transport: Transport) -> None:
    master.deaf = 1000
    with pytest.raises(LostProgramError, match=f"subscribe {NAME}"):
        transport.subscribe(TOPIC, "JointAnimation", lambda _: None, 0.6)


def test_the_end_of_a_connection_is_said(master: FakeMaster, transport: Transport) -> None:
    transport.subscribe(TOPIC, "JointAnimation", lambda _: None, 10.0)
    assert master.ready.wait(10.0)
    assert master.subscriber is not None
    master.subscriber.close()
    with pytest.raises(LostProgramError, match=f"publisher of {NAME}"):
        transport.wait(lambda: False, 10.0, "the end")


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1", b"FFFFFFFF", b"00000003abc"])
def test_a_master_that_talks_nonsense_is_said(master: FakeMaster, nonsense: bytes) -> None:
    opened = Transport(master.messages, master.port)
    try:
        assert master.client is not None
        master.client.sendall(nonsense)
        with pytest.raises(LostProgramError, match="nonsense"):
            opened.wait(lambda: False, 10.0, "nothing")
    finally:
        opened.close()


def test_a_port_without_a_master_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(LostProgramError, match=str(port)):
        Transport(FakeMessages(), port)
