"""The emulator's front door: re-exports the public names; no behaviour lives here.

`Emulator` answers DashScope's two documented rerank protocols over real HTTP on loopback, for
work and tests without a key. It is written from vendor pages and public reports and was never
compared with the live service. Its scores are a lexical stand-in, not the Qwen models.
"""

try:
    import fastapi as _fastapi  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as _error:
    raise ImportError(
        'The emulator needs FastAPI and uvicorn: pip install "qwen-rerank[emulator]"'
    ) from _error

from qwen_rerank.emulator._faults import FAULTS
from qwen_rerank.emulator._log import LoggedRequest
from qwen_rerank.emulator._script import Reply
from qwen_rerank.emulator._server import Emulator

__all__ = ["Emulator", "FAULTS", "LoggedRequest", "Reply"]  # noqa: RUF022  sorted as Python sorts
