"""How time passes: ``paced`` (as fast as the graph keeps up) or a factor of the wall clock."""

from rl_robot.errors import UserError

PACED = "paced"


def parse_pace(pace: str) -> float | None:
    """Return the factor of real time (1.0: real time), or None for ``paced``.

    Raises:
        UserError: neither ``paced`` nor a number in (0, 20].
    """
    if pace == PACED:
        return None
    try:
        factor = float(pace)
    except ValueError:
        factor = 0.0
    if not 0.0 < factor <= 20.0:
        raise UserError(f"pace '{pace}' is neither 'paced' nor a factor of real time up to 20")
    return factor
