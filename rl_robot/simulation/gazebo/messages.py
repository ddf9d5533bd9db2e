"""Gazebo's protobuf messages, compiled when Gazebo was installed."""

import importlib
import sys
from pathlib import Path
from typing import Any

from rl_robot.errors import UserError


class Messages:
    """The compiled messages of a folder that holds ``<file>_pb2.py`` for each of Gazebo's files.

    Raises:
        UserError: there are none, or they don't fit this machine's protobuf.
    """

    def __init__(self, folder: Path) -> None:
        # They import each other by their bare names: only the path makes them find each other.
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        self._folder = folder
        self._kinds: dict[str, Any] = {}
        self._kind("Packet", "packet")

    def new(self, name: str, file: str) -> Any:
        """Return an empty message; ``file`` is the name of its file, without an ending."""
        return self._kind(name, file)()

    def parse(self, name: str, file: str, data: bytes) -> Any:
        """Return the message that is serialized in ``data``.

        Raises:
            google.protobuf.message.DecodeError: it is no such message.
        """
        return self._kind(name, file).FromString(data)

    def _kind(self, name: str, file: str) -> Any:
        if name not in self._kinds:
            try:
                self._kinds[name] = getattr(importlib.import_module(f"{file}_pb2"), name)
            except (ImportError, AttributeError, TypeError, RuntimeError) as error:
                raise UserError(
                    f"Gazebo's message {name} can't be read from {self._folder} ({error}): "
                    "install Gazebo again with make gazebo-setup"
                ) from error
        return self._kinds[name]
