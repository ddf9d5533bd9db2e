"""Lets the tests of this folder import the episodes of the exchange's tests."""

import sys
from pathlib import Path

for folder in ("exchange", "experience"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
