"""The decisions that set-up makes, without running any of it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setup_environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "setup_environment", ROOT / "scripts" / "setup_environment.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan(*names: str) -> dict:
    return {"install": [{"metadata": {"name": name, "version": "1.0"}} for name in names]}


def test_the_first_python_that_is_new_enough_is_taken(setup_environment):
    found = [("/usr/bin/python3", (3, 9)), ("/a/python3.12", (3, 12)), ("/a/python3.11", (3, 11))]
    assert setup_environment.choose_python(found) == "/a/python3.12"


def test_without_a_suitable_python_the_message_says_what_was_found_and_what_is_needed(
    setup_environment,
):
    with pytest.raises(setup_environment.SetupError, match=r"3\.10 to 3\.14.*only 3\.9, 3\.15"):
        setup_environment.choose_python([("a", (3, 9)), ("b", (3, 15))])


def test_only_missing_packages_are_installed_whatever_their_release_calls_them(setup_environment):
    installed = {"libegl1", "libgl1", "libgl1-mesa-dri", "libgles2", "libglib2.0-0t64"}
    assert setup_environment.missing_packages(installed.__contains__, ensurepip=True) == []
    installed.remove("libegl1")
    missing = setup_environment.missing_packages(installed.__contains__, ensurepip=False)
    assert missing == ["libegl1", "python3-venv"]


def test_packages_are_installed_only_where_that_needs_no_password(setup_environment):
    commands = setup_environment.install_commands
    assert commands(["libegl1"], is_root=False, free_sudo=False) is None
    assert all(
        command[:2] == ["sudo", "-n"]
        for command in commands(["libegl1"], is_root=False, free_sudo=True)
    )
    as_root = commands(["libegl1"], is_root=True, free_sudo=False)
    assert as_root[-1][-1] == "libegl1"
    assert not any("sudo" in command for command in as_root)


@pytest.mark.parametrize(
    ("names", "has_gpu", "backend"),
    [
        (["torch", "numpy"], False, None),
        (["torch", "numpy"], True, None),
        ([], False, None),
        (["torch", "nvidia-cublas"], False, "cpu"),
        (["torch", "triton"], False, "cpu"),
        (["torch", "cuda-bindings", "triton"], True, "auto"),
    ],
)
def test_cuda_packages_come_only_to_a_machine_that_can_use_them(
    setup_environment, names, has_gpu, backend
):
    assert setup_environment.torch_backend(plan(*names), has_gpu=has_gpu) == backend


def test_beside_a_ros_installation_no_ros_wheels_are_installed(setup_environment):
    assert "bare" in setup_environment.requirement(ros=None)
    assert "bare" not in setup_environment.requirement(ros="jazzy")


def test_the_fingerprint_follows_contents_and_machine(setup_environment):
    fingerprint = setup_environment.fingerprint
    base = fingerprint({"a": b"1", "b": b"2"}, {"gpu": "no"})
    assert base == fingerprint({"b": b"2", "a": b"1"}, {"gpu": "no"})
    assert base != fingerprint({"a": b"2", "b": b"1"}, {"gpu": "no"})
    assert base != fingerprint({"a": b"1", "b": b"2"}, {"gpu": "yes"})


def test_no_cuda_package_is_pinned_and_torch_is():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [pin for pin in pins if pin.startswith(("nvidia-", "cuda-", "triton"))]
    assert "torch==2.13.0" in pins
