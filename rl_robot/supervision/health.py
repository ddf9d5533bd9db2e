"""Who is alive: judged by the reports that every node makes twice a second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class _Report:
    at: float  # steady clock, s
    values: Mapping[str, str]


@dataclass
class Roll:
    """The nodes that a session needs, and when each was last heard.

    A node is lost when it is silent for `silence` seconds, or when another process answers in its
    name: it died and was started again, so what it was doing is gone.
    """

    expected: Sequence[str]
    silence: float = 5.0
    _reports: dict[str, _Report] = field(default_factory=dict)
    _restarted: set[str] = field(default_factory=set)

    def hear(self, node: str, values: Mapping[str, str], now: float) -> None:
        """Take a node's report; `values` holds at least its pid."""
        if node not in self.expected:
            return
        before = self._reports.get(node)
        if before is not None and before.values.get("pid") != values.get("pid"):
            self._restarted.add(node)
        self._reports[node] = _Report(now, values)

    def missing(self, now: float, since: float = 0.0) -> list[str]:
        """Name the nodes that are silent, or were not heard after the time `since`."""
        oldest = max(now - self.silence, since)
        return [
            node
            for node in self.expected
            if node not in self._reports or self._reports[node].at < oldest
        ]

    def take_restarted(self) -> list[str]:
        """Name the nodes that were started again since the last call."""
        restarted = sorted(self._restarted)
        self._restarted.clear()
        return restarted

    def without(self, nodes: Sequence[str], name: str, value: str) -> list[str]:
        """Name those of `nodes` that are expected here and did not say last: `name` is `value`."""
        return [node for node in nodes if node in self.expected and self.value(node, name) != value]

    def value(self, node: str, name: str, default: str = "") -> str:
        """Return what a node last said of itself."""
        report = self._reports.get(node)
        return report.values.get(name, default) if report else default
