"""The servers that people run themselves: how each is asked, answers and fails; no scoring here.

vLLM, Infinity, Xinference and LiteLLM are played as they were seen to answer on 2026-11-29 (the
versions are in each class); SGLang and TEI are written from their sources and documents, read on
2026-11-24, and were never run. The real ones ignore a field that they do not know. Here it is
refused, in the server's own words for a bad body, so that a client's slip shows. Scores are the
stand-in's, raw or not.

Each has a module, and `base` what they have in common.
"""

from collections.abc import Mapping
from types import MappingProxyType

from qwen_rerank.emulator._servers.base import MODEL, OwnServer, Slip
from qwen_rerank.emulator._servers.cohere import Cohere
from qwen_rerank.emulator._servers.infinity import Infinity
from qwen_rerank.emulator._servers.litellm import LiteLLM
from qwen_rerank.emulator._servers.sglang import SGLang
from qwen_rerank.emulator._servers.tei import TEI
from qwen_rerank.emulator._servers.vllm import VL_MODEL, VLLM
from qwen_rerank.emulator._servers.xinference import Xinference

__all__ = ["MODEL", "SERVERS", "VL_MODEL", "OwnServer", "Slip", "server_at"]

SERVERS: Mapping[str, OwnServer] = MappingProxyType(
    {
        server.name: server
        for server in (VLLM(), SGLang(), TEI(), Xinference(), Infinity(), LiteLLM(), Cohere())
    }
)


def server_at(path: str) -> OwnServer | None:
    """Return the server whose address *path* begins with, or None."""
    return SERVERS.get(path.strip("/").partition("/")[0])
