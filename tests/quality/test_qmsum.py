"""What splitting long documents is worth, on meetings nearly all of which are over the limit."""

from collections.abc import Callable
from functools import cache
from typing import Self

import pytest

from qwen_rerank import Reranker, _tokens
from qwen_rerank.emulator import Emulator, _scorer


class Remembering:
    """The tokenizer, counting each of the 35 meetings once instead of with every question.

    The emulator's scorer remembers their words as well.
    """

    def __init__(self, tokenizer: _tokens.Tokenizer) -> None:
        self.count, self.head, self.windows = map(
            cache, (tokenizer.count, tokenizer.head, tokenizer.windows)
        )

    def watched(self, _check: Callable[[], None]) -> Self:
        """The same: what is remembered takes no time."""
        return self


@pytest.mark.slow
def test_split_finds_what_truncate_cuts_off(qmsum, capsys, monkeypatch):
    """Windows find answers that stand behind the limit: nDCG@10 is clearly above truncating."""
    remembering = Remembering(_tokens.tokenizer())
    monkeypatch.setattr(_tokens, "tokenizer", lambda: remembering)
    monkeypatch.setattr(_scorer, "_terms", cache(_scorer._terms))
    names, texts = list(qmsum.documents), list(qmsum.documents.values())
    questions = list(qmsum.queries.items())[::12]  # all 237 say the same, and take minutes

    def ndcg(policy: str, emulator: Emulator) -> float:
        reranker = Reranker(
            base_url=emulator.base_url,
            api_key=emulator.api_key,
            long_documents=policy,
        )
        return qmsum.ndcg(
            {
                query: [names[hit.index] for hit in reranker.rerank(text, texts)]
                for query, text in questions
            }
        )

    with Emulator() as emulator:  # cuts at the model's item limit, as the older pages say
        truncate, split = (ndcg(policy, emulator) for policy in ("truncate", "split"))

    with capsys.disabled():
        print(f"\nQMSum nDCG@10: truncate {truncate:.3f}, split {split:.3f}")  # noqa: T201
    assert split > truncate + 0.04
