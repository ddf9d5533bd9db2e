"""Weights come over a network, from whoever is on it: what is not a policy is refused, cheaply."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from rl_robot.errors import UserError
from rl_robot.policies import PolicySpec
from rl_robot.policies.network import NetworkPolicy
from rl_robot.robots.description import load_robot
from rl_robot.tasks import load_task

TASK, ROBOT = load_task("reach"), load_robot("arm")
SPEC = PolicySpec.of(TASK, ROBOT, version=7)
WEIGHTS = NetworkPolicy(SPEC, hidden=(16, 8)).to_bytes()
HEADER_SIZE = struct.unpack("<Q", WEIGHTS[:8])[0]
HEADER: dict[str, Any] = json.loads(WEIGHTS[8 : 8 + HEADER_SIZE])


def refused(data: bytes) -> None:
    with pytest.raises(UserError, match="weights"):
        NetworkPolicy.from_bytes(data, "weights")


def with_metadata(**changes: str) -> bytes:
    return bytes(save(load(WEIGHTS), metadata=HEADER["__metadata__"] | changes))


def with_spec(**changes: Any) -> bytes:
    return with_metadata(spec=json.dumps(json.loads(SPEC.to_json()) | changes))


def test_what_was_sent_arrives() -> None:
    assert NetworkPolicy.from_bytes(WEIGHTS).spec == SPEC
    assert NetworkPolicy.from_bytes(with_spec(version=8)).spec.version == 8


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    refused(data)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=64))
def test_any_length_of_a_header_that_is_not_there(length: int, rest: bytes) -> None:
    refused(struct.pack("<Q", length) + rest)


@given(st.integers(0, len(WEIGHTS) - 1))
def test_every_truncation(length: int) -> None:
    refused(WEIGHTS[:length])


@given(st.integers(0, 8 + HEADER_SIZE - 1), st.integers(1, 255))
def test_a_changed_header_is_refused_or_still_a_policy(at: int, change: int) -> None:
    data = bytearray(WEIGHTS)
    data[at] ^= change
    try:
        policy = NetworkPolicy.from_bytes(bytes(data), "weights")
    except UserError:
        return
    assert policy.hidden == (16, 8)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(json_values)
def test_any_json_for_a_header(value: Any) -> None:
    text = json.dumps(value).encode()
    refused(struct.pack("<Q", len(text)) + text)


@given(json_values)
def test_any_json_for_a_specification(value: Any) -> None:
    refused(with_metadata(spec=json.dumps(value)))


@given(
    st.sampled_from(["version", "observation", "action_names", "noise_correlation", "low_pass"]),
    json_values,
)
def test_any_json_for_what_counts_in_a_specification(name: str, value: Any) -> None:
    try:
        policy = NetworkPolicy.from_bytes(with_spec(**{name: value}), "weights")
    except UserError:
        return
    # It may still describe a network of these shapes, such as one with five other actions.
    assert type(policy.spec.version) is int
    assert len(policy.spec.action_names) == 5


@pytest.mark.parametrize(
    "hidden",
    [
        "",
        "16",
        "8,16",
        "-16,8",
        "16,8,0",
        "1000000,1000000",
        "9" * 30 + ",8",
        "9" * 5000,
        "16,eight",
        ",".join(["1"] * 100_000),
    ],
)
def test_sizes_that_are_not_those_of_the_weights(
    hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocated(*_: Any) -> None:
        raise AssertionError("a network was made before its size was known to fit")

    monkeypatch.setattr(NetworkPolicy, "__init__", allocated)
    refused(with_metadata(hidden=hidden))


@pytest.mark.parametrize("shape", [[10**12], [10**30], [-1], [2, 10**9], ["2"], [1.5], [[1]]])
def test_observations_of_any_shape(shape: list[Any]) -> None:
    refused(with_spec(observation={"tool_position": {"shape": shape, "unit": "m"}}))


@pytest.mark.parametrize("version", [-1, 2**53, 10**400, 1.5, "7", None, True, [7]])
def test_versions_that_count_nothing(version: Any) -> None:
    refused(with_spec(version=version))


@pytest.mark.parametrize("correlation", [-0.1, 1, 1.0, 10**400, float("nan"), "0.7", None, [0.7]])
def test_correlations_of_no_noise(correlation: Any) -> None:
    refused(with_spec(noise_correlation=correlation))


@pytest.mark.parametrize(
    "gains", [[0.5], [0.5] * 6, [0.5, 0.5, 0.5, 0.5, 2], [None] * 5, ["1"] * 5, 7, {"x": 1}]
)
def test_gains_of_no_low_pass(gains: Any) -> None:
    refused(with_spec(low_pass=gains))


def test_a_file_from_before_there_were_low_passes_is_a_policy_without() -> None:
    spec = json.loads(SPEC.to_json())
    del spec["low_pass"], spec["noise_correlation"]
    assert NetworkPolicy.from_bytes(with_metadata(spec=json.dumps(spec))).spec == SPEC


def test_deep_nesting() -> None:
    text = b'{"__metadata__":' + b"[" * 100_000
    refused(struct.pack("<Q", len(text)) + text)
    refused(with_metadata(spec="[" * 100_000))


@settings(max_examples=30)
@given(st.sampled_from(sorted(load(WEIGHTS))), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_weights_that_are_not_finite(name: str, value: float) -> None:
    weights = {key: array.copy() for key, array in load(WEIGHTS).items()}
    weights[name].flat[0] = value
    refused(bytes(save(weights, metadata=HEADER["__metadata__"])))


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.bool_])
def test_weights_of_another_type(kind: type) -> None:
    weights = {key: array.astype(kind) for key, array in load(WEIGHTS).items()}
    refused(bytes(save(weights, metadata=HEADER["__metadata__"])))


def test_a_weight_too_few_and_one_too_many() -> None:
    weights = load(WEIGHTS)
    missing = {key: array for key, array in weights.items() if key != "head.bias"}
    refused(bytes(save(missing, metadata=HEADER["__metadata__"])))
    more = weights | {"more": np.zeros(3, np.float32)}
    refused(bytes(save(more, metadata=HEADER["__metadata__"])))


def test_no_metadata_at_all() -> None:
    refused(bytes(save(load(WEIGHTS))))
    refused(with_metadata(format="another"))
