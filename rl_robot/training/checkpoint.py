"""What a trainer needs to go on after being killed, in one file that is never half-written."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rl_robot.errors import UserError

_FORMAT = "rl_robot checkpoint 1"


class CheckpointFile:
    """A safetensors file whose header holds the counters as JSON, and the one before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        self._damaged = False  # the newest, which is not worth keeping then

    def write(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Replace the checkpoint; the one before stays until this one is whole and on disk."""
        header = {"format": _FORMAT, "values": json.dumps(values, allow_nan=False)}
        part = self.path.with_name(self.path.name + ".part")
        with part.open("wb") as file:
            file.write(save(tensors, metadata=header))
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists() and not self._damaged:
            spare = self.path.with_name(self.previous.name + ".part")
            spare.unlink(missing_ok=True)
            os.link(self.path, spare)  # so that there is a checkpoint at every moment
            spare.replace(self.previous)
        part.replace(self.path)
        self._damaged = False

    def read(self) -> tuple[dict[str, Any], dict[str, torch.Tensor], list[str]]:
        """Return values and tensors of the newest whole checkpoint, and what was wrong with newer.

        Raises:
            UserError: there are checkpoints, but none is whole.
            FileNotFoundError: there is none.
        """
        paths = [path for path in (self.path, self.previous) if path.exists()]
        if not paths:
            raise FileNotFoundError(self.path)
        problems: list[str] = []
        for path in paths:
            try:
                found = *_read(path), problems
            except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
                problems.append(f"{path} is damaged ({error})")
                continue
            self._damaged = bool(problems) and self.path.exists()
            return found
        raise UserError(
            f"{'; '.join(problems)}: delete {self.path.parent} to train anew from the bags"
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if header.get("format") != _FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}, not {_FORMAT!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values: dict[str, Any] = json.loads(header["values"])
    return values, tensors
