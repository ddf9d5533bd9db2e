"""What a check found: one line as it goes, and a table and JSON of all at the end."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

PASS, FAIL, SKIPPED = "PASS", "FAIL", "SKIPPED"

# A doctor's exit status.
SOUND, UNSOUND, UNKNOWN = 0, 1, 3


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: which one.
        status: PASS, FAIL or SKIPPED.
        figure: what was measured, in words with its unit.
        limit: what it is measured against.
        wrong: of a failure, what is wrong; of a skipped check, why it was skipped.
        right: of a failure, what would be right, or what to do.
    """

    check: str
    status: str
    figure: str = ""
    limit: str = ""
    wrong: str = ""
    right: str = ""

    def line(self) -> str:
        """Return the finding as one line."""
        figures = ", ".join(filter(None, [self.figure, self.limit and f"limit {self.limit}"]))
        text = "; ".join(filter(None, [self.wrong, self.right]))
        return f"{self.status:<8}{self.check:<22} " + " | ".join(filter(None, [figures, text]))


def passed(check: str, figure: str, limit: str = "") -> Finding:
    """Return that a check found nothing wrong."""
    return Finding(check, PASS, figure, limit)


def failed(check: str, wrong: str, right: str, figure: str = "", limit: str = "") -> Finding:
    """Return what a check found wrong, and what would be right."""
    return Finding(check, FAIL, figure, limit, wrong, right)


def skipped(check: str, why: str) -> Finding:
    """Return that a check could not be made."""
    return Finding(check, SKIPPED, wrong=why)


def exit_status(findings: Sequence[Finding]) -> int:
    """Return SOUND if all passed, UNSOUND if one failed, else UNKNOWN: some could not be made."""
    statuses = {finding.status for finding in findings}
    if FAIL in statuses:
        return UNSOUND
    return UNKNOWN if SKIPPED in statuses or not findings else SOUND


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as aligned lines, and how many there are of each kind."""
    counts = [
        f"{sum(finding.status == status for finding in findings)} {status.lower()}"
        for status in (PASS, FAIL, SKIPPED)
    ]
    width = max((len(finding.check) for finding in findings), default=0)
    rows = [
        f"{one.status:<8}{one.check:<{width}}  {one.figure or one.wrong:<44}  {one.limit}".rstrip()
        for one in findings
    ]
    return "\n".join([*rows, ", ".join(counts)])


def as_json(robot: str, findings: Sequence[Finding]) -> str:
    """Return the findings about a robot as JSON text."""
    status = {SOUND: "sound", UNSOUND: "unsound", UNKNOWN: "unknown"}[exit_status(findings)]
    document = {"robot": robot, "status": status, "findings": [asdict(one) for one in findings]}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
