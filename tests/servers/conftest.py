"""Puts the duties within reach of their test; tests nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # run.py is a script beside its modules
