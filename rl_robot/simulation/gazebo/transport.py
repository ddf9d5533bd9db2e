"""A client of the transport of Gazebo Classic 11: TCP, and frames that hold protobuf messages.

A master tells publishers and subscribers of each other; messages then go straight from one to the
other. All sockets belong to the one thread that uses the client, which looks after them while it
waits: nobody has to be woken for a message. A frame is eight hexadecimal digits, its length, and
that many bytes. What talks to the master, and the request for a topic, are packets: a type and a
serialized message.
"""

import selectors
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from rl_robot.errors import LostProgramError
from rl_robot.simulation.gazebo.messages import Messages

HEADER = 8
LARGEST_FRAME = 64 << 20  # bytes: a picture of 16 megapixels and more
_CHUNK = 1 << 20
_WELCOME = 5.0  # s in which a master that was reached tells of itself
_AGAIN = 0.5  # s after which what nobody took up is said again
_SEND_TIMEOUT = 5.0  # s: a program that takes nothing for so long hangs

Handler = Callable[[bytes], None]


class MalformedFrameError(ValueError):
    """Bytes that are no frame."""


@dataclass
class Frames:
    """Cuts a stream of bytes into frames.

    ``feed`` raises a MalformedFrameError when a header is no number or announces more than
    ``largest`` bytes.
    """

    largest: int = LARGEST_FRAME
    _bytes: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the frames that they complete."""
        self._bytes += data
        frames = []
        while len(self._bytes) >= HEADER:
            end = HEADER + self._length(bytes(self._bytes[:HEADER]))
            if len(self._bytes) < end:
                break
            frames.append(bytes(self._bytes[HEADER:end]))
            del self._bytes[:end]
        return frames

    def _length(self, header: bytes) -> int:
        if any(digit not in b"0123456789abcdefABCDEF" for digit in header):
            raise MalformedFrameError(f"a frame begins with {header!r}, not with its length")
        length = int(header, 16)
        if length > self.largest:
            raise MalformedFrameError(
                f"a frame of {length} bytes, at most {self.largest} are taken"
            )
        return length


def frame(payload: bytes) -> bytes:
    """Return ``payload`` as a frame."""
    return b"%08X" % len(payload) + payload


@dataclass
class _Connection:
    """An open socket, and what is done with each of its frames."""

    socket: socket.socket
    handler: Handler
    what: str
    frames: Frames = field(default_factory=Frames)


class Transport:
    """A connection to the master of a running Gazebo, and through it to topics.

    Args:
        messages: Gazebo's messages.
        port: of the master, on the loopback interface.
        world: name of the world that ``~`` in topics stands for.
        timeout: s to wait for the master.

    Raises:
        LostProgramError: nobody answers as a master does.
    """

    def __init__(
        self, messages: Messages, port: int, *, world: str = "default", timeout: float = 30.0
    ) -> None:
        self._messages = messages
        self._world = world
        self._selector = selectors.DefaultSelector()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self._handlers: dict[str, Handler] = {}
        self._heard: dict[str, set[tuple[str, int]]] = defaultdict(set)  # publishers by topic
        self._audience: dict[str, list[_Connection]] = {}
        self._greeted = False
        try:
            self._selector.register(self._listener, selectors.EVENT_READ, None)
            self._master = self._connect(port, self._on_master, "Gazebo's master", timeout)
            self.wait(lambda: self._greeted, _WELCOME, "Gazebo's master to tell of itself")
        except BaseException:
            self.close()
            raise

    def subscribe(self, topic: str, kind: str, handler: Handler, timeout: float) -> None:
        """Have ``handler`` called with each serialized message of a topic, while something waits.

        ``kind`` is the message's name without its package, such as ``ImageStamped``.

        Raises:
            LostProgramError: nobody published it in ``timeout`` seconds, or Gazebo ended.
        """
        name = self._full(topic)
        self._handlers[name] = handler
        wish = self._subscription(name, f"gazebo.msgs.{kind}")
        self._insist("subscribe", wish, lambda: bool(self._heard[name]), timeout)

    def advertise(self, topic: str, kind: str, timeout: float) -> None:
        """Announce messages on a topic, and wait until somebody listens.

        Raises:
            LostProgramError: nobody did in ``timeout`` seconds, or Gazebo ended.
        """
        name = self._full(topic)
        audience = self._audience[name] = []
        offer = self._messages.new("Publish", "publish")
        offer.topic, offer.msg_type = name, f"gazebo.msgs.{kind}"
        offer.host, offer.port = self._address
        self._insist("advertise", offer, lambda: bool(audience), timeout)

    def publish(self, topic: str, message: bytes) -> None:
        """Send a serialized message to all who listen to an advertised topic.

        Raises:
            LostProgramError: nobody is there any more.
        """
        for connection in self._audience[self._full(topic)]:
            self._send(connection, message)

    def wait(self, until: Callable[[], bool], timeout: float, what: str) -> None:
        """Handle what comes until ``until()`` is true.

        Raises:
            LostProgramError: it did not become so in ``timeout`` seconds, or Gazebo ended.
        """
        if not self._look_until(until, timeout):
            raise LostProgramError(f"Gazebo: waited in vain for {timeout:g} s for {what}")

    def look(self) -> None:
        """Handle what came, without waiting.

        Raises:
            LostProgramError: Gazebo ended.
        """
        self._handle(0.0)

    def close(self) -> None:
        """Close all connections; more than once does nothing."""
        for connection in self._connections:
            connection.socket.close()
        self._connections.clear()
        self._listener.close()
        self._selector.close()

    # --- waiting -----------------------------------------------------------------------------

    def _look_until(self, until: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not until():
            left = deadline - time.monotonic()
            if left <= 0.0:
                return False
            self._handle(left)
        return True

    def _handle(self, patience: float) -> None:
        for key, _ in self._selector.select(patience):
            if key.data is None:
                self._accept()
            else:
                self._receive(key.data)

    def _accept(self) -> None:
        accepted, (host, _) = self._listener.accept()
        connection = _Connection(accepted, lambda _: None, f"a hearer at {host}")
        connection.handler = lambda data: self._on_request(connection, data)
        self._watch(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_CHUNK)
        except OSError as error:
            raise LostProgramError(f"Gazebo ended: {connection.what}: {error.strerror}") from error
        if not data:
            raise LostProgramError(f"Gazebo ended: {connection.what} closed the connection")
        try:
            for payload in connection.frames.feed(data):
                connection.handler(payload)
        except (MalformedFrameError, DecodeError) as error:
            raise LostProgramError(f"Gazebo: {connection.what} said nonsense: {error}") from error

    def _insist(self, kind: str, message: Any, until: Callable[[], bool], timeout: float) -> None:
        """Tell the master again and again: it may have missed whom it should have told of us."""
        deadline = time.monotonic() + timeout
        while not until():
            patience = min(_AGAIN, deadline - time.monotonic())
            if patience <= 0.0:
                raise LostProgramError(f"Gazebo: nobody answers '{kind} {message.topic}'")
            self._say(kind, message)
            self._look_until(until, patience)

    # --- what is said to us --------------------------------------------------------------------

    def _on_master(self, payload: bytes) -> None:
        packet = self._messages.parse("Packet", "packet", payload)
        if packet.type == "publishers_init":
            self._greeted = True
        elif packet.type in ("publisher_subscribe", "publisher_advertise"):
            self._hear(self._messages.parse("Publish", "publish", packet.serialized_data))

    def _hear(self, publisher: Any) -> None:
        """Ask a publisher that the master told of for its messages, once."""
        where = (publisher.host, publisher.port)
        topic = publisher.topic
        if topic not in self._handlers or where == self._address or where in self._heard[topic]:
            return
        self._heard[topic].add(where)
        handler = self._handlers[topic]
        connection = self._connect(publisher.port, handler, f"the publisher of {topic}", _WELCOME)
        self._say("sub", self._subscription(topic, publisher.msg_type), connection)

    def _on_request(self, connection: _Connection, payload: bytes) -> None:
        packet = self._messages.parse("Packet", "packet", payload)
        if packet.type == "sub":
            topic = self._messages.parse("Subscribe", "subscribe", packet.serialized_data).topic
            if topic in self._audience:
                self._audience[topic].append(connection)

    # --- what we say -----------------------------------------------------------------------------

    def _subscription(self, topic: str, kind: str) -> Any:
        wish = self._messages.new("Subscribe", "subscribe")
        wish.topic, wish.msg_type, wish.latching = topic, kind, False
        wish.host, wish.port = self._address
        return wish

    def _say(self, kind: str, message: Any, connection: _Connection | None = None) -> None:
        packet = self._messages.new("Packet", "packet")
        packet.type, packet.serialized_data = kind, message.SerializeToString()
        packet.stamp.sec, packet.stamp.nsec = divmod(time.time_ns(), 1_000_000_000)
        self._send(connection or self._master, packet.SerializeToString())

    def _send(self, connection: _Connection, payload: bytes) -> None:
        try:
            connection.socket.sendall(frame(payload))
        except OSError as error:
            raise LostProgramError(f"Gazebo ended: {connection.what}: {error}") from error

    # --- connections -----------------------------------------------------------------------------

    def _connect(self, port: int, handler: Handler, what: str, timeout: float) -> _Connection:
        # Only ever this machine, whatever host a publisher claims to be at.
        try:
            opened = socket.create_connection(("127.0.0.1", port), timeout)
        except OSError as error:
            raise LostProgramError(
                f"Gazebo: {what} does not answer on port {port}: {error}"
            ) from error
        connection = _Connection(opened, handler, what)
        self._watch(connection)
        return connection

    def _watch(self, connection: _Connection) -> None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.settimeout(_SEND_TIMEOUT)
        self._connections.append(connection)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _full(self, topic: str) -> str:
        return f"/gazebo/{self._world}/{topic[2:]}" if topic.startswith("~/") else topic
