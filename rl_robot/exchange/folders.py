"""Folders that appear under their name when they are whole, and not before."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_robot.errors import UserError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which gets the name ``folder`` when the block ends well.

    Until then it has the suffix ``.part``; when the block fails nothing is left of it. A process
    that is killed leaves the ``.part`` behind.

    Raises:
        UserError: ``folder`` or its ``.part`` exists already.
    """
    part = folder.with_name(folder.name + ".part")
    if folder.exists():
        raise UserError(f"{folder} exists already and is not overwritten: give another folder")
    if part.exists():
        raise UserError(f"{part} was left by an export that was cut short: remove it first")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
