"""`python -m qwen_rerank.cli`, for where the scripts folder is not on PATH."""

import sys

from qwen_rerank.cli import main

__all__: list[str] = []

sys.exit(main())
