"""Puts the scripts that write pages within reach of their tests; tests nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
