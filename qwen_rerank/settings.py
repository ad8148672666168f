"""Every option of a reranker, once: its name, default and check. No call is made from here."""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    PydanticDeprecatedSince20,
    SecretStr,
    SkipValidation,
    Strict,
    StringConstraints,
    field_validator,
)
from pydantic_core import core_schema, from_json
from typing_extensions import deprecated, override

from qwen_rerank import _endpoint, _wire
from qwen_rerank._advice import Advice, Option, advise, said
from qwen_rerank._plain import frozen
from qwen_rerank._sealed import KEY_NAMES, Sealed
from qwen_rerank._servers import spoken

__all__ = ["PATH", "As", "RerankSettings"]


def _is_no_key(text: str) -> str:
    if _endpoint.KEY.search(text):
        raise ValueError(advise("looks like an API key, which goes into {api_key=:change}"))
    return text


def _checked_body(body: dict[str, Any]) -> Any:
    """*body* as JSON has it; a frozen copy."""
    try:
        text = json.dumps(body, allow_nan=False)
        plain = from_json(text)
    except (TypeError, ValueError, RecursionError):
        problem = "must be JSON: texts, finite numbers, true, false, null, lists and objects"
    else:
        if _endpoint.KEY.search(text):
            raise ValueError(
                advise(
                    "holds what looks like an API key: use {api_key=:change} or {headers=:change}"
                )
            )
        return frozen(plain)
    raise ValueError(problem)  # outside the handler, whose error may hold a value


class As(NamedTuple):
    """Has an option validated as *kind*; its annotation says, in plain types, what may be given.

    It is dumped as *written*, if given, makes it of the value.
    """

    kind: Any
    written: Callable[[Any], str] | None = None

    def __get_pydantic_core_schema__(
        self, _source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        made = handler.generate_schema(self.kind)
        if self.written is None:
            return made
        written = core_schema.plain_serializer_function_ser_schema(self.written)
        return cast("core_schema.CoreSchema", {**made, "serialization": written})


# Plain text options; blanks at the ends are a slip.
_TEXT = StringConstraints(strip_whitespace=True, min_length=1)
_NAME = As(Annotated[str, _TEXT, AfterValidator(_is_no_key)])
_FINITE = AllowInfNan(allow_inf_nan=False)
# A path, as text in every dump, so that all of them can be JSON.
PATH = As(Path, written=str)
_HEADERS = As(Annotated[dict[str, SecretStr], AfterValidator(_endpoint.checked_headers)])
_BODY = As(Annotated[dict[str, Any], AfterValidator(_checked_body)])


@dataclass
class _Resolved:
    """The endpoint of one state of the options, or None until a call has looked for it.

    Copies and calls share it with the object while these options are the same.
    """

    endpoint: _endpoint.Endpoint | None = None


class RerankSettings(Sealed):
    """The options that every reranker of this project has, whatever framework it serves.

    Options are checked when they are given and again when one is assigned, which takes effect with
    the next call. No value that fails a check is shown in the message: it might be the key.

    A copy shares the caller's clients, key and cache, and opens connections of its own, which
    *max_concurrency* limits apart from those of the first object. So do not copy for each question:
    ``with_options`` gives an object that shares them.


    Raises:
        ValueError: An option is unknown or wrong, or there is no key for an Alibaba Cloud host.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        populate_by_name=True, protected_namespaces=(), defer_build=True
    )

    model: Annotated[str, _NAME] = "qwen3-rerank"
    """Name of the rerank model, ``"qwen3-rerank"`` by default. Any name is sent as it is; one
    without a row in the table of limits is planned for conservatively.
    """
    top_n: Annotated[int, Strict(), Field(ge=1)] | None = None
    """How many documents to keep, at least 1; None, the default here, keeps all."""
    api_key: Annotated[SecretStr | str, As(SecretStr)] | None = Field(
        default=None, validation_alias=AliasChoices(*KEY_NAMES), exclude=True, repr=False
    )
    """The DashScope API key. None looks for one where the dashscope SDK does: in
    ``dashscope.settings.api_key`` and ``dashscope.api_key`` if they were set in code, in
    ``DASHSCOPE_API_KEY``, in its config file and its key file; a key found there is sent to Alibaba
    Cloud and loopback hosts only. One in quotes or behind ``Bearer`` is refused.
    ``dashscope_api_key`` is an alias.
    """
    base_url: Annotated[str, _TEXT] | None = None
    """Base URL of the service, such as ``https://host/api/v1``; None uses the region's."""
    region: Annotated[str, _NAME] | None = None
    """``cn-beijing`` (Beijing, the default), ``ap-southeast-1`` (Singapore), ``cn-hongkong`` (Hong
    Kong), ``us-east-1`` (Virginia; whether rerank is served there is not known), and with
    *workspace* also ``eu-central-1`` (Frankfurt) and ``ap-northeast-1`` (Tokyo).
    """
    workspace: Annotated[str, _NAME] | None = None
    """Model Studio workspace id. Calls go to its own host; where a base URL is given or found they
    go there, and a header names the workspace.
    """
    protocol: Literal["dashscope", "compatible"] = "dashscope"
    """``"dashscope"``, the default, for the native protocol, which serves every model, or
    ``"compatible"`` for the flat one at ``/compatible-api/v1/reranks``, which *server* implies.
    """
    server: (
        Literal["vllm", "sglang", "tei", "xinference", "infinity", "litellm", "cohere"] | None
    ) = None
    """What answers at *base_url*, if it is a server of your own: ``"vllm"``, ``"sglang"``,
    ``"tei"`` (Text Embeddings Inference), ``"xinference"``, ``"infinity"``, ``"litellm"``, or
    ``"cohere"`` for what else speaks as Cohere's API does; their dialects of the compatible
    protocol differ. It gets a key only if *api_key* is given. None is Alibaba Cloud.
    """
    instruct: Annotated[str, _NAME] | None = None
    """What counts as relevant, in an English sentence; None leaves the model's default (web search
    retrieval). The gte models ignore it.
    """
    score_threshold: Annotated[float, _FINITE] | None = None
    """Keep only documents with at least this score; None keeps all. Scores differ by model, region
    and *instruct*.
    """
    # On Windows locks and sockets take no more than some weeks, and nowhere any number.
    timeout: Annotated[float, _FINITE, Field(gt=0, le=1_000_000)] = 30.0
    """Seconds for the whole call, 30 by default and a million at most, from its start to its
    ranking: queueing, all attempts, the waits between them and the reading of answers included.
    """
    max_retries: Annotated[int, Strict(), Field(ge=0)] = 2
    """How often a request is sent again after a failure that may pass; 2 by default."""
    max_concurrency: Annotated[int, Strict(), Field(ge=1)] = 8
    """Requests in flight at once, 8 by default, over all calls, threads and event loops that use
    this object.
    """
    max_documents_per_request: Annotated[int, Strict(), Field(ge=1)] | None = None
    """Cut requests smaller than the model's limit asks for: more of them at once for a lower
    latency. The token bill stays the same. None uses the limit. For a *server* of your own it may
    be larger too, as one may be started with another limit; None is the server's default limit, or
    100 where it has none.
    """
    max_model_len: Annotated[int, Strict(), Field(ge=16)] | None = None
    """For a *server* of your own: tokens that query, instruct, document and template may have
    together, at least 16. None asks a server that tells, until it did; else it goes by the model's
    name, or 512.
    """
    max_tokens_per_doc: Annotated[int, Strict(), Field(ge=1)] | None = None
    """For a *server* of your own: tokens that a document may have, by our count. None is what the
    query leaves.
    """
    long_documents: Literal["truncate", "split", "error"] = "truncate"
    """What happens to a document over the model's token limit: ``"truncate"``, the default, scores
    its head and reports it in ``Ranking.truncated``, ``"split"`` scores overlapping windows, keeps
    the best and reports it in ``Hit.window``, ``"error"`` refuses before anything is sent. An
    over-long query is cut under the first two, with a warning.
    """
    long_query: Literal["head", "tail"] = "head"
    """Which end of a query over the model's token limit is asked: ``"head"``, the default, or
    ``"tail"``, where a conversation has its last question.
    """
    on_error: Literal["raise", "passthrough"] = "raise"
    """What happens when there is no ranking and that is not the caller's mistake (the service is
    down, slow, overloaded, refuses a text or answers with nonsense, or the balance is used up):
    ``"raise"``, the default, or ``"passthrough"`` to get the documents in their original order, cut
    to *top_n*, without scores and with ``Ranking.degraded`` set. Wrong calls and refused keys
    always raise.
    """
    outage_pause: Annotated[float, _FINITE, Field(ge=0)] = 30.0
    """Under ``"passthrough"``, seconds for which calls pass through at once after one has found the
    service gone or silent, 30 by default, but no more than ten times *timeout*; then one call tries
    again. 0 asks with every call.
    """
    mixed: Literal["max", "text", "media", "together"] = "max"
    """What is scored of a document that has a text and an image or video, of which the service
    takes one: ``"max"``, the default, scores both and keeps the better, ``"text"`` or ``"media"``
    prefers one, and ``"together"`` scores an image and its text as one, which vLLM takes
    (*server*). ``Hit.kind`` says what a score is of.
    """
    fps: Annotated[float, _FINITE, Field(ge=0, le=1)] | None = None
    """For videos, the part of the frames that is looked at, 0 to 1; None leaves the service's
    default, all that it samples. A ratio, in spite of its name.
    """
    cache: Annotated[Any, SkipValidation] = Field(default=None, exclude=True, repr=False)
    """Where scores are kept: anything with ``[]``, such as a dict, ``cachetools.TTLCache`` or
    ``diskcache.Cache``, or with ``mget`` and ``mset``, such as a key-value store of LangChain's. It
    is used as given, never copied. A cached score assumes that a pair's score does not depend on
    its neighbours, which others measured for qwen3-rerank and the vendor does not promise. Keys
    hold the URL: no region is given another's score.
    """
    client: Any = Field(default=None, exclude=True, repr=False)
    """A ``dashscope.Client`` (dashscope 2.x) whose connections, key and host are used for sync
    calls, whatever *base_url* and *region* say. Awaited calls go out without it, so give
    *async_client* too.
    """
    async_client: Any = Field(default=None, exclude=True, repr=False)
    """A ``dashscope.AsyncClient`` (dashscope 2.x), likewise for awaited calls."""
    headers: Annotated[Mapping[str, SecretStr | str], _HEADERS] | None = Field(
        default=None, exclude=True, repr=False
    )
    """More headers for every request, such as a gateway asks for. Like the key, their values are in
    no repr, dump, pickle, log or error. They win over those of *http_client*; the key's and the
    request's own cannot be given.
    """
    extra_body: Annotated[Mapping[str, Any], _BODY] | None = None
    """More fields for every request's body, for gateways and for what this version does not know.
    They are merged at its top level, and into the objects that stand there, such as ``parameters``;
    a field that the request has itself is refused.
    """
    http_client: Any = Field(default=None, exclude=True, repr=False)
    """An ``httpx.Client``, or one of httpx2, to send sync calls through: proxies, certificates. It
    is used in threads of ours that see the caller's context variables.
    """
    async_http_client: Any = Field(default=None, exclude=True, repr=False)
    """An ``httpx.AsyncClient``, or one of httpx2, to send async calls through, in the caller's
    loop.
    """
    allow_http: bool = False
    """Whether the key and the documents may leave this machine over plain http; not by default."""

    _resolved: _Resolved = PrivateAttr(default_factory=_Resolved)

    # What the endpoint is made of; assigning one of these makes it anew.
    _connection: ClassVar[tuple[str, ...]] = (
        *("api_key", "base_url", "region", "workspace", "protocol", "server", "allow_http"),
        *("client", "async_client", "headers", "extra_body"),
        *("max_model_len", "max_tokens_per_doc", "mixed"),
    )

    _implied: ClassVar[tuple[str, ...]] = ("protocol",)

    # Private state of ours, which begins anew in a copy and in a pickle; a subclass's is kept, but
    # for secrets in a pickle.
    _anew: ClassVar[tuple[str, ...]] = ("_resolved",)

    # What no dump shows, and a pickle keeps all the same.
    _pickled: ClassVar[tuple[str, ...]] = ()

    # Options that others have: what to know instead of them.
    _slips: ClassVar[Mapping[str, str]] = {
        "rank_fields": "item= says what of a document is ranked",
        "return_documents": "documents come back anyway",
    }

    # What peers call ours; of these, a likeness of the letters would name a wrong one or none.
    _of_peers: ClassVar[Mapping[str, str]] = {
        "api_base": "base_url",
        "batch_size": "max_documents_per_request",
        "dashscope_api_base": "base_url",
        "endpoint": "base_url",
        "k": "top_n",
        "similarity_cutoff": "score_threshold",
        "token": "api_key",
        "url": "base_url",
    }

    @field_validator("cache")
    @classmethod
    def _can_keep(cls, cache: Any) -> Any:
        ways = ("__getitem__", "__setitem__"), ("mget", "mset")
        can = any(all(hasattr(cache, name) for name in way) for way in ways)
        if cache is not None and (isinstance(cache, type) or not can):
            raise ValueError(
                "must be a cache with [], such as a dict or cachetools.TTLCache, or a store with "
                "mget and mset, such as LangChain's"
            )
        makes_scores_up = isinstance(cache, Counter | defaultdict)
        if makes_scores_up:
            raise ValueError(
                f"must raise KeyError for what it does not hold: what a {type(cache).__name__} "
                "makes up there would be taken for a score"
            )
        return cache

    @field_validator("client", "async_client")
    @classmethod
    def _has_transport(cls, client: Any) -> Any:
        if client is not None and not hasattr(getattr(client, "transport", None), "http_client"):
            raise ValueError("must be a client of dashscope 2.x")
        return client

    @field_validator("http_client", "async_http_client")
    @classmethod
    def _can_stream(cls, client: Any) -> Any:
        if client is not None and not hasattr(client, "build_request"):
            raise ValueError("must be an httpx or httpx2 client")
        return client

    @field_validator("http_client", "client")
    @classmethod
    def _is_sync(cls, client: Any) -> Any:
        if _is_async(client):
            raise ValueError("is for sync calls and cannot be an async client")
        return client

    @field_validator("async_http_client", "async_client")
    @classmethod
    def _is_for_loops(cls, client: Any) -> Any:
        if client is not None and not _is_async(client):
            raise ValueError("is for async calls and must be an async client")
        return client

    @override
    def _settle(self, given: Collection[str]) -> None:
        """Follows what the options imply: a protocol that nobody chose, and the endpoint."""
        if set(self._connection).isdisjoint(given):
            return
        if "protocol" not in self.model_fields_set:
            usual = type(self).model_fields["protocol"].default
            self.__dict__["protocol"] = usual if self.server is None else "compatible"
        if taken := _wire.taken(self.extra_body or {}, self.protocol, self.server):
            raise ValueError(
                f"extra_body must not hold {taken!r}, which is set by the options of this object"
            )
        takes_parts = spoken(self.protocol, self.server).takes_parts
        if self.mixed == "together" and not takes_parts:
            raise ValueError(
                advise(
                    "{mixed='together':change} takes {server='vllm':change}: DashScope takes a "
                    "text or an image, not both"
                )
            )
        for name in ("max_model_len", "max_tokens_per_doc"):
            if getattr(self, name) is not None and self.server is None:
                raise ValueError(
                    advise(
                        "{name} is for a server of your own, which {server=} names",
                        name=Advice(Option(name, use="name")),
                    )
                )
        self._resolved = _Resolved(self._resolve())  # calls under way keep theirs

    @property
    def _key(self) -> SecretStr | None:
        return cast("SecretStr | None", self.api_key)  # sealed on its way in

    @property
    def _more_headers(self) -> Mapping[str, SecretStr] | None:
        return cast("Mapping[str, SecretStr] | None", self.headers)  # likewise

    def _resolve(self, *, key_required: bool | None = None) -> _endpoint.Endpoint:
        if key_required is None:
            key_required = self.client is None and self.async_client is None
        try:
            endpoint = _endpoint.resolve(
                api_key=self._key,
                base_url=self.base_url,
                region=self.region,
                workspace=self.workspace,
                protocol=self.protocol,
                allow_http=self.allow_http,
                key_required=key_required,
                server=self.server,
                headers=self._more_headers,
            )
        except ValueError as error:
            problem = said(error)
        else:
            return replace(endpoint, given=self._given())
        raise ValueError(problem)  # outside the handler, whose frames hold what was found

    def _given(self) -> dict[str, Any]:
        """The options of the connection that are set, for messages."""
        options = {name: getattr(self, name) for name in self._connection}
        secret = {"api_key", "headers", "extra_body", "client", "async_client"}
        return {"protocol": self.protocol} | {
            name: True if name in secret else value
            for name, value in options.items()
            if name in self.model_fields_set and value is not None
        }

    def _for_this_call(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """*options*, checked together as `with_options` does; the object's own stay as they are."""
        # A frozen class takes options for one call all the same, by the rules that all have.
        is_frozen = self.model_config.get("frozen")
        checked = RerankSettings.model_construct() if is_frozen else BaseModel.__copy__(self)
        checked._forget()
        checked._assign(dict(options))
        return {name: getattr(checked, name) for name in options}

    @override
    @staticmethod
    def _sealed(options: dict[str, Any]) -> dict[str, Any]:
        sealed = Sealed._sealed(options)
        if isinstance(headers := options.get("headers"), Mapping):
            sealed["headers"] = {
                name: SecretStr(headers[name]) if isinstance(headers[name], str) else headers[name]
                for name in headers
            }
        return sealed

    # Pickles hold no key and no client; copies share both, because a copy is made to change an
    # option. Of a subclass's private state, secrets begin anew in a pickle, and what cannot be
    # pickled raises, as with pydantic's own.
    @override
    def __getstate__(self) -> dict[Any, Any]:
        fields = type(self).model_fields
        kept = {
            name: value
            for name, value in self.__dict__.items()
            if name in self._pickled or (name in fields and not fields[name].exclude)
        }
        set_ = set(self.model_fields_set) & kept.keys()
        private = self._kept_private()
        private = {name: private[name] for name in private if not _is_secret(private[name])}
        return {"options": kept, "set": set_, "private": private}

    @override
    def __setstate__(self, state: dict[Any, Any]) -> None:
        self._become(self._remade(state["set"], state["options"], state["private"]))

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        made, update = copy.copy(self), dict(update or {})
        made._assign(update)  # checked, which pydantic's own copy leaves out
        return made

    @override
    @deprecated("use model_copy", category=None)  # warned of below
    def copy(
        self,
        *,
        include: Any = None,
        exclude: Any = None,
        update: Mapping[str, Any] | None = None,
        deep: bool = False,
    ) -> Self:
        """`model_copy` by pydantic's former name, which would keep the old host and key."""
        if include is not None or exclude is not None:
            raise ValueError("a copy has all options: use model_copy")
        warnings.warn("copy is deprecated: use model_copy", PydanticDeprecatedSince20, stacklevel=2)
        made, update = copy.copy(self), dict(update or {})
        made._assign(update)
        return made

    @override
    def __copy__(self) -> Self:
        made = self._remade(set(self.model_fields_set), self.__dict__, self._kept_private())
        made._resolved = self._resolved  # host and key stay those that were found
        return made

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return copy.copy(self)

    def _kept_private(self) -> dict[str, Any]:
        private = self.__pydantic_private__ or {}
        return {name: value for name, value in private.items() if name not in self._anew}

    @classmethod
    def _remade(cls, given: set[str], options: dict[str, Any], private: dict[str, Any]) -> Self:
        made: Any = cls.model_construct(given, **options)
        made.__pydantic_private__.update(private)
        return cast("Self", made)

    def _become(self, other: Self) -> None:
        for name in (
            "__dict__",
            "__pydantic_fields_set__",
            "__pydantic_extra__",
            "__pydantic_private__",
        ):
            object.__setattr__(self, name, getattr(other, name))


def _is_secret(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else [value]
    return any(isinstance(part, SecretStr) for part in parts)


def _is_async(client: Any) -> bool:
    http = getattr(getattr(client, "transport", None), "http_client", client)
    return inspect.iscoroutinefunction(getattr(http, "send", None))
