"""Where transitions come from, and in which ratio a batch is made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rl_robot.errors import UserError

DEMONSTRATION = "demonstration"
OFFLINE = "offline"
ONLINE = "online"
KINDS = (DEMONSTRATION, OFFLINE, ONLINE)

_ANY = "*"
_OR = "|"
_LONGEST_NAME = 200


@dataclass(frozen=True, order=True)
class Source:
    """Where a transition comes from; ``str`` gives ``kind/robot/task``.

    Attributes:
        kind: "demonstration"; "online", explored in this run; "offline", explored in another.
        robot: the robot's name.
        task: the task's name.
    """

    kind: str
    robot: str
    task: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"{self.kind!r} is no kind of source: expected {', '.join(KINDS)}")
        for name in (self.robot, self.task):
            if not 0 < len(name) <= _LONGEST_NAME or any(mark in name for mark in "/*|"):
                raise UserError(
                    f"{name!r} cannot be part of a source: expected 1 to {_LONGEST_NAME} "
                    "characters, none of them / * |"
                )

    def __str__(self) -> str:
        return f"{self.kind}/{self.robot}/{self.task}"

    @classmethod
    def parse(cls, label: str) -> "Source":
        """Return the source that ``str`` made ``label`` of.

        Raises:
            UserError: it is none.
        """
        parts = label.split("/")
        if len(parts) != 3:
            raise UserError(f"{label!r} is no source: expected kind/robot/task")
        return cls(*parts)


Sources = tuple[Source, ...]


@dataclass(frozen=True)
class Mixture:
    """Patterns of sources and what part of a batch each is worth.

    A pattern is ``kind/robot/task``, each a name, ``*`` for any, or names with ``|`` between them:
    ``online/*/*``, ``offline|online/arm/grasp``. Weights need not sum to 1. Within a pattern all
    transitions are equally likely. A pattern that has none gives its share to those that have;
    where these have no weight, they share alike.

    Attributes:
        weights: pairs of pattern and weight.
    """

    weights: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        if not self.weights:
            raise UserError("a mixture needs a pattern: name one, as demonstration/*/*")
        for pattern, weight in self.weights:
            parts = pattern.split("/")
            if len(parts) != 3 or not all(parts):
                raise UserError(f"{pattern!r} is no pattern of sources: expected kind/robot/task")
            unknown = set(parts[0].split(_OR)) - {*KINDS, _ANY}
            if unknown:
                raise UserError(
                    f"{pattern!r}: {', '.join(sorted(unknown))} is no kind of source: expected "
                    f"{', '.join(KINDS)} or {_ANY}"
                )
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"the weight of {pattern!r} is {weight}: it should be 0 or more")

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> "Mixture":
        """Return the mixture of these weights by pattern.

        Raises:
            UserError: a pattern or a weight makes no sense.
        """
        return cls(tuple((pattern, float(weight)) for pattern, weight in weights.items()))

    @classmethod
    @lru_cache(maxsize=16)
    def demonstrated(cls, fraction: float) -> "Mixture":
        """Return the mixture with this part of demonstrations, the rest of any experience."""
        return cls(
            (
                (f"{DEMONSTRATION}/*/*", fraction),
                (f"{OFFLINE}{_OR}{ONLINE}/*/*", max(0.0, 1.0 - fraction)),
            )
        )

    def shares(self, size: int, sources: Sources) -> list[tuple[Sources, int]]:
        """Split ``size`` among the patterns that match one of ``sources``, which have data.

        Returns:
            For each such pattern its sources and its count; the counts sum to ``size``.

        Raises:
            UserError: no pattern matches.
        """
        groups = _groups(self, sources)
        if not groups:
            patterns = ", ".join(pattern for pattern, _ in self.weights)
            known = ", ".join(map(str, sources))
            raise UserError(f"the mixture of {patterns} matches none of the sources: {known}")
        counts = apportion(size, [weight for _, weight in groups])
        return [(group, count) for (group, _), count in zip(groups, counts, strict=True)]


def parse_mixture(text: str) -> dict[str, float]:
    """Return weights by pattern: ``demonstration/*/*=0.5,online/arm/*=0.5``; empty for no text.

    Raises:
        UserError: a part of another form, a pattern said twice, or one that makes no sense.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        pattern, _, weight = (side.strip() for side in part.partition("="))
        try:
            number = float(weight)
        except ValueError:
            raise UserError(
                f"mixture '{part}': expected kind/robot/task=weight, as in online/*/*=0.5"
            ) from None
        if pattern in weights:
            raise UserError(f"mixture '{part}': {pattern} is said twice")
        weights[pattern] = number
    if weights:
        Mixture.of(weights)
    return weights


def apportion(size: int, weights: Sequence[float]) -> list[int]:
    """Split ``size`` by ``weights``, by largest remainder; of equal ones the first is given more.

    Weights that are all 0 count as equal.
    """
    total = math.fsum(weights)
    shares = [size * (w / total if total else 1 / len(weights)) for w in weights]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for index in by_remainder[: size - sum(counts)]:
        counts[index] += 1
    return counts


@lru_cache(maxsize=256)
def _groups(mixture: Mixture, sources: Sources) -> list[tuple[Sources, float]]:
    """Return the sources that each pattern matches, and its weight; empty patterns left out."""
    matched = [
        (tuple(source for source in sources if _matches(pattern, source)), weight)
        for pattern, weight in mixture.weights
    ]
    return [(group, weight) for group, weight in matched if group]


def _matches(pattern: str, source: Source) -> bool:
    names = (source.kind, source.robot, source.task)
    return all(
        part == _ANY or name in part.split(_OR)
        for part, name in zip(pattern.split("/"), names, strict=True)
    )
