"""What of a dict is ranked; nothing else about documents is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qwen_rerank.errors import RequestError

__all__ = ["checked", "rendered"]

_DEFAULT = ("text",)  # as Cohere, Pinecone and Bedrock have it
_OTHERS = "rank_fields= names other keys. Images are given as Image(...), videos as Video(...)."


def checked(rank_fields: Iterable[str] | None) -> tuple[str, ...]:
    """The keys whose values are ranked.

    Raises:
        RequestError: *rank_fields* is no list of keys, or an empty one.
    """
    if rank_fields is None:
        return _DEFAULT
    fields = (
        tuple(rank_fields)
        if isinstance(rank_fields, Iterable) and not isinstance(rank_fields, str | bytes | Mapping)
        else ()
    )
    if not fields or not all(isinstance(field, str) for field in fields):
        raise RequestError('rank_fields must be a list of keys, such as ["title", "text"]')
    return fields


def rendered(document: Mapping[str, object], fields: tuple[str, ...], position: int) -> str:
    """The text that *document* is ranked by.

    Of one field that is its value, so that a dict around a text has the text's own score; several
    become lines ``key: value`` in the order of *fields*, as Cohere's YAML has them, without those
    that are blank.

    Raises:
        RequestError: *document*, at *position* of the caller's list, lacks a text for a field.
    """
    texts: dict[str, str] = {}
    for field in fields:
        value = document.get(field)
        if not isinstance(value, str):
            has = f"{type(value).__name__} as its" if field in document else "no"
            raise RequestError(
                f"document {position} has {has} {field!r}: a dict is ranked by texts",
                hint=_OTHERS if fields is _DEFAULT else None,
                documents=(position,),
            )
        texts[field] = value
    if len(texts) == 1:
        return texts[fields[0]]
    return "\n".join(f"{field}: {text}" for field, text in texts.items() if text.strip())
