"""Mistakes that type checkers have to report: an error that is expected and absent is an error."""

from __future__ import annotations

from langchain_core.documents import Document

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import CallOptions, Image, Reranker
from qwen_rerank.emulator import Emulator, Reply


def options() -> None:
    """Names and values of options are known, in the core and in both doors."""
    Reranker(tpo_n=3)  # type: ignore[call-arg]
    Reranker("qwen3-rerank")  # type: ignore[call-arg]
    langchain_qwen_rerank.QwenRerank("qwen3-rerank")  # type: ignore[call-arg]
    Reranker(on_error="ignore")  # type: ignore[arg-type]
    Reranker(timeout="30s")  # type: ignore[arg-type]
    langchain_qwen_rerank.QwenRerank(metadata_mode="all")  # type: ignore[call-arg]
    llama_index_qwen_rerank.QwenRerank(image_key="image")  # type: ignore[call-arg]
    llama_index_qwen_rerank.QwenRerank(3, long_documents="cut")  # type: ignore[arg-type]


def calls(reranker: Reranker, chain: langchain_qwen_rerank.QwenRerank) -> None:
    """So are the arguments of calls, and what comes back."""
    reranker.rerank(["a", "b"], "q")  # type: ignore[arg-type]
    reranker.rerank("q", ["a"], top_k=1)  # type: ignore[call-arg]
    reranker.rerank("q", [7])  # type: ignore[list-item]
    reranker.rerank("q", ["a"])[0].score + 1  # type: ignore[operator]
    reranker.top_n = "5"  # type: ignore[assignment]
    chain.compress_documents(["a"], "q")  # type: ignore[list-item]
    chain.rerank([Document("a")], "q")[0]["score"]  # type: ignore[typeddict-item]
    CallOptions(timeout=3)  # type: ignore[typeddict-unknown-key]
    Image("https://example.com/a.png", size=3)  # type: ignore[call-arg]
    Emulator(over_long="cut")  # type: ignore[arg-type]
    Reply(drop="late")  # type: ignore[arg-type]
