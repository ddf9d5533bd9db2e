"""Who imports whom: as docs/architecture.md says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rl_robot"
FOR_EVERYONE = {"errors", "resources", "plugins", "bags"}
ROS = re.compile(r"(rclpy|launch|launch_ros|\w+_msgs)\b")
MAY_USE_ROS = ("nodes/", "ros/", "bringup/launch_ros_actions.py")
PROSE = {"environments", "nodes", "bringup"}  # rows that say it in words


def imported(file: Path) -> Iterator[str]:
    """All modules that a file names in imports, wherever in it they stand."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def table() -> dict[str, set[str]]:
    """Packages by the table's rows, with those that they may use."""
    allowed: dict[str, set[str]] = {}
    text = (ROOT / "docs" / "architecture.md").read_text()
    for names, uses in re.findall(r"^\| (`\w+`.*?) \| (.*) \|$", text, re.MULTILINE):
        packages = re.findall(r"`(\w+)`", names.split(":")[0])
        if all((PACKAGE / name).is_dir() for name in packages):
            found = set(re.findall(r"`(\w+)`", uses))
            if "what that may use" in uses:
                found |= set().union(*(allowed[name] for name in found if name in allowed))
            allowed |= dict.fromkeys(packages, found)
    return allowed


PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - PROSE))
def test_a_package_uses_what_the_table_allows(package: str) -> None:
    allowed = table()[package] | FOR_EVERYONE | {package}
    for file in (PACKAGE / package).rglob("*.py"):
        for module in imported(file):
            parts = module.split(".")
            if parts[0] == "rl_robot" and len(parts) > 1:
                assert parts[1] in allowed, f"{file.relative_to(PACKAGE)} imports {module}"


def test_ros_is_imported_where_it_may_be() -> None:
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        if not name.startswith(MAY_USE_ROS):
            assert not [module for module in imported(file) if ROS.match(module)], name
