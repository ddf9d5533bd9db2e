"""A ROS domain of one's own, so that two sessions on one machine never hear each other."""

import socket
from collections.abc import Iterable

from rl_robot.errors import UserError

# Fast DDS binds its first UDP ports at 7400 + 250 * domain. Up to 101 they lie below the ports
# that Linux hands out for other uses; the low domains are the ones people set by hand.
DOMAINS = range(20, 102)
_FIRST_UNICAST_PORT = 7410
_PORTS_PER_DOMAIN = 250


class Domain:
    """A claimed ROS domain; others get another one until this is closed or the process ends.

    The claim is a socket with an abstract name: the kernel frees it with the process, however
    that ends, and no file is left behind.
    """

    def __init__(self, number: int, claim: socket.socket) -> None:
        self.number = number
        self._claim = claim

    def close(self) -> None:
        """Give the domain back."""
        self._claim.close()


def claim_domain(candidates: Iterable[int] = DOMAINS) -> Domain:
    """Claim the first domain that no session of ours and no other ROS program here uses.

    Raises:
        UserError: all are in use.
    """
    for number in candidates:
        claim = _claim(number)
        if claim is None:
            continue
        if _heard(number):
            claim.close()
            continue
        return Domain(number, claim)
    raise UserError(
        "every ROS domain of this machine is in use: end a session or set ROS_DOMAIN_ID"
    )


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0rl_robot/domain/{number}")
    except OSError:
        claim.close()
        return None
    return claim


def _heard(number: int) -> bool:
    """Tell whether a DDS participant of this domain has bound its port on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", _FIRST_UNICAST_PORT + _PORTS_PER_DOMAIN * number))
        except OSError:
            return True
    return False
