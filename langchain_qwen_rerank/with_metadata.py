"""What of a document is ranked besides its page content; for ``QwenRerank(item=...)``."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.documents import Document

__all__ = ["WithMetadata"]


@dataclass(frozen=True, init=False)
class WithMetadata:
    """Ranks documents by chosen metadata fields and their page content.

    A document becomes one line ``key: value`` for each of the keys that it has, in the order given
    here, then an empty line and its page content. A value that is None, blank or an empty list
    leaves its line out; the values of a list are joined by commas.

    Examples:
        >>> from langchain_core.documents import Document
        >>> item = WithMetadata("title", "year")
        >>> print(item(Document("Text.", metadata={"title": "On Tea", "year": 1211, "id": 7})))
        title: On Tea
        year: 1211
        <BLANKLINE>
        Text.

    Args:
        *keys: Metadata keys, at least one.

    Raises:
        ValueError: No key, or one that is no text.
    """

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        if not keys or not all(isinstance(key, str) and key for key in keys):
            raise ValueError("WithMetadata takes the names of metadata fields")
        object.__setattr__(self, "keys", keys)

    def __call__(self, document: Document) -> str:
        shown = ((key, _shown(document.metadata.get(key))) for key in self.keys)
        lines = [f"{key}: {value}" for key, value in shown if value]
        return "\n".join([*lines, "", document.page_content] if lines else [document.page_content])


def _shown(value: object) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        shown = filter(None, map(_shown, value))
        return ", ".join(shown if isinstance(value, list | tuple) else sorted(shown))
    return "" if value is None else " ".join(str(value).split())
