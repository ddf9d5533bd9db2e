"""Lets these tests use their synthetic sessions, and the experience package's."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "experience")]
