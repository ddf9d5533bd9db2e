"""A stand-in for gzserver's side of the transport, and messages made without Gazebo's files."""

import socket
import threading
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from rl_robot.simulation.gazebo.transport import Frames, frame

_STRING, _BYTES, _INT32, _UINT32, _BOOL, _MESSAGE = 9, 12, 5, 13, 8, 11
_REQUIRED = 2
_ADDRESS = {"host": _STRING, "port": _UINT32}
# Types of fields by name; a text is the name of the message that the field holds.
_KINDS: dict[str, dict[str, int | str]] = {
    "Time": {"sec": _INT32, "nsec": _INT32},
    "Packet": {"stamp": "Time", "type": _STRING, "serialized_data": _BYTES},
    "Publish": {"topic": _STRING, "msg_type": _STRING, **_ADDRESS},
    "Subscribe": {"topic": _STRING, **_ADDRESS, "msg_type": _STRING, "latching": _BOOL},
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="fake_gazebo.proto", package="fake.gazebo")
    for kind, fields in _KINDS.items():
        message = file.message_type.add(name=kind)
        for number, (name, type_) in enumerate(fields.items(), start=1):
            field = message.field.add(name=name, number=number, label=_REQUIRED)
            field.type = type_ if isinstance(type_, int) else _MESSAGE
            if isinstance(type_, str):
                field.type_name = f".fake.gazebo.{type_}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        kind: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"fake.gazebo.{kind}"))
        for kind in _KINDS
    }


class FakeMessages:
    """What the transport needs of ``Messages``."""

    def __init__(self) -> None:
        self._kinds = _classes()

    def new(self, name: str, _file: str) -> Any:
        return self._kinds[name]()

    def parse(self, name: str, _file: str, data: bytes) -> Any:
        return self._kinds[name].FromString(data)


class FakeMaster:
    """Answers a client as gzserver does: it publishes one topic and listens to one."""

    def __init__(self, messages: FakeMessages) -> None:
        self.messages = messages
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.publisher = socket.create_server(("127.0.0.1", 0))
        self.received: list[bytes] = []
        self.deaf = 0  # wishes that are dropped first, as gzserver drops some
        self.client: socket.socket | None = None
        self.subscriber: socket.socket | None = None
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def packet(self, kind: str, data: bytes = b"") -> bytes:
        packet = self.messages.new("Packet", "packet")
        packet.stamp.sec = packet.stamp.nsec = 0
        packet.type, packet.serialized_data = kind, data
        return frame(packet.SerializeToString())

    def close(self) -> None:
        for one in (self.listener, self.publisher, self.client, self.subscriber):
            if one is not None:
                one.close()

    def _serve(self) -> None:
        try:
            self.client, _ = self.listener.accept()
            for kind in ("version_init", "topic_namepaces_init", "publishers_init"):
                self.client.sendall(self.packet(kind))
            frames = Frames()
            while data := self.client.recv(4096):
                for payload in frames.feed(data):
                    self._answer(self.messages.parse("Packet", "packet", payload))
        except OSError:  # closed by the test
            return

    def _answer(self, packet: Any) -> None:
        if self.deaf:
            self.deaf -= 1
            return
        assert self.client is not None
        if packet.type == "subscribe":
            wish = self.messages.parse("Subscribe", "subscribe", packet.serialized_data)
            offer = self.messages.new("Publish", "publish")
            offer.topic, offer.msg_type = wish.topic, wish.msg_type
            offer.host, offer.port = "192.0.2.1", self.publisher.getsockname()[1]
            self.client.sendall(self.packet("publisher_advertise", offer.SerializeToString()))
            self.subscriber, _ = self.publisher.accept()
            self.ready.set()
        elif packet.type == "advertise":
            self._hear(self.messages.parse("Publish", "publish", packet.serialized_data))

    def _hear(self, offer: Any) -> None:
        wish = self.messages.new("Subscribe", "subscribe")
        wish.topic, wish.msg_type, wish.latching = offer.topic, offer.msg_type, False
        wish.host, wish.port = "127.0.0.1", 1
        hearer = socket.create_connection(("127.0.0.1", offer.port))
        hearer.sendall(self.packet("sub", wish.SerializeToString()))
        threading.Thread(target=self._take, args=(hearer,), daemon=True).start()

    def _take(self, hearer: socket.socket) -> None:
        frames = Frames()
        with hearer:
            while data := hearer.recv(4096):
                self.received += frames.feed(data)
