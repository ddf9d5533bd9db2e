"""Lets these tests use the synthetic session of the experience package's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "experience"))
