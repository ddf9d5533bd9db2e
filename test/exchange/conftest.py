"""Lets the tests of this folder import their episodes, and the synthetic session."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "experience"))
