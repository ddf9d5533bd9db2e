"""The line that tells how a session gets on."""

import io

from rl_robot.supervision.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_says_what_a_person_wants_to_know() -> None:
    stream = io.StringIO()
    ProgressLine(20, stream).show(
        done=5, successes=4, broken=1, wall=10.0, simulated=100.0, steps=1000
    )
    line = stream.getvalue()
    for part in ("5/20", "4 (80 %)", "broken 1", "10.0x real time", "100 control", "0:30 left"):
        assert part in line


def test_without_a_terminal_every_line_stays() -> None:
    stream = io.StringIO()
    line = ProgressLine(0, stream)
    for done in (1, 2):
        line.show(done, done, 0, 1.0, 1.0, 10)
    line.end()
    assert len(stream.getvalue().splitlines()) == 2
    assert "left" not in stream.getvalue()  # no end is known


def test_on_a_terminal_the_line_is_rewritten_and_left_at_the_end() -> None:
    stream = Terminal()
    line = ProgressLine(2, stream)
    line.show(1, 1, 0, 1.0, 1.0, 10)
    line.show(2, 2, 0, 2.0, 2.0, 20)
    assert stream.getvalue().count("\n") == 0
    line.end()
    line.end()
    assert stream.getvalue().count("\n") == 1
