"""Checksums for the few records of a bag that lie outside its checksummed chunks.

A file that was cut short has lost the checksums of its whole and of its index. What a channel's
messages are, and what the episode was, can then still be told from what damage made of it.
"""

import json
import zlib
from collections.abc import Mapping

SEAL = "crc32"


def sealed(values: Mapping[str, str], **identity: str | int) -> dict[str, str]:
    """Return a table with a checksum of itself, and of what else it belongs to."""
    return {**values, SEAL: _checksum(values, identity)}


def unsealed(values: Mapping[str, str]) -> dict[str, str]:
    """Return a table without its checksum."""
    return {key: value for key, value in values.items() if key != SEAL}


def seal_holds(values: Mapping[str, str], **identity: str | int) -> bool:
    """Whether a table has a checksum, and the right one."""
    return values.get(SEAL) == _checksum(unsealed(values), identity)


def _checksum(values: Mapping[str, str], identity: Mapping[str, str | int]) -> str:
    text = json.dumps([dict(values), dict(identity)], sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"
