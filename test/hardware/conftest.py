"""The simulated graph is shared by tests of several files."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
