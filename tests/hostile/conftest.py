"""Puts the corpus within reach of the tests beside it; tests nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
