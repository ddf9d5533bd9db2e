"""Statistics of features, by which LeRobot's policies normalize what they are given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Statistics = Mapping[str, npt.NDArray[np.float64]]  # "mean", "q50" and so on -> one per component

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_PICTURES = 100  # of an episode, at most, that its statistics are made from
_PIXELS = 150  # of a picture's longer side, about


def column_statistics(values: npt.NDArray[Any]) -> Statistics:
    """Statistics of the columns of (N, n) values; those that are not finite count for nothing.

    A column without any finite value has zeros, because LeRobot's readers take no NaN for one.
    """
    columns = values.astype(np.float64)
    parts = [_statistics(column[np.isfinite(column)]) for column in columns.T]
    together = {name: np.array([part[name] for part in parts]) for name in parts[0]}
    return together | {"count": np.array([len(values)])}


def picture_statistics(pictures: npt.NDArray[np.uint8]) -> Statistics:
    """Statistics (3, 1, 1) by channel, of values from 0 to 1, of (N, H, W, 3) pictures."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), _PICTURES)).astype(int))
    stride = max(1, max(pictures.shape[1:3]) // _PIXELS)
    pixels = pictures[chosen, ::stride, ::stride].reshape(-1, 3) / 255.0
    values = column_statistics(pixels)
    shaped = {name: value.reshape(3, 1, 1) for name, value in values.items() if name != "count"}
    return shaped | {"count": np.array([len(chosen)])}


def combine(first: Statistics | None, second: Statistics) -> Statistics:
    """Statistics of both together, weighted by their counts.

    Quantiles become the weighted mean of quantiles, as LeRobot has it: the true ones cannot be had
    from two sets of statistics.
    """
    if first is None:
        return second
    counts = np.array([first["count"][0], second["count"][0]], dtype=np.float64)
    shares = counts / counts.sum()
    mean = shares[0] * first["mean"] + shares[1] * second["mean"]
    variance = sum(
        share * (part["std"] ** 2 + (part["mean"] - mean) ** 2)
        for share, part in zip(shares, (first, second), strict=True)
    )
    return {
        "min": np.minimum(first["min"], second["min"]),
        "max": np.maximum(first["max"], second["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: shares[0] * first[name] + shares[1] * second[name] for name in QUANTILES},
        "count": first["count"] + second["count"],
    }


def to_json(statistics: Statistics) -> dict[str, Any]:
    """As ``meta/stats.json`` has them."""
    return {name: value.tolist() for name, value in statistics.items()}


def _statistics(values: npt.NDArray[np.float64]) -> dict[str, float]:
    if not values.size:
        return dict.fromkeys(("min", "max", "mean", "std", *QUANTILES), 0.0)
    quantiles = np.quantile(values, list(QUANTILES.values()))
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
        **dict(zip(QUANTILES, map(float, quantiles), strict=True)),
    }
