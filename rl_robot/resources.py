"""Finds the data files (config/, urdf/, launch/) in a checkout or in an installed share folder."""

import sys
from pathlib import Path

from rl_robot.errors import UserError

_CHECKOUT = Path(__file__).resolve().parent.parent


def _share_folders() -> list[Path]:
    """Candidate roots, the checkout first so that an edited file is the one used."""
    roots = [_CHECKOUT, Path(sys.prefix) / "share" / "rl_robot"]
    try:
        from ament_index_python.packages import get_package_share_directory

        roots.append(Path(get_package_share_directory("rl_robot")))
    except (ImportError, LookupError, OSError):  # no ROS here, not sourced, or not its package
        pass
    return roots


def resource_path(relative: str) -> Path:
    """Return the path of a data file such as ``config/robots/arm.yaml``.

    Raises:
        UserError: the file is in none of the places where the package installs its data.
    """
    for root in _share_folders():
        candidate = root / relative
        if candidate.exists():
            return candidate
    raise UserError(f"{relative} was not found: reinstall rl_robot (make setup)")


def resource_files(folder: str, suffix: str) -> list[Path]:
    """Return the data files in ``folder`` whose names end in ``suffix``, sorted by name."""
    for root in _share_folders():
        if (root / folder).is_dir():
            return sorted((root / folder).glob(f"*{suffix}"))
    return []
