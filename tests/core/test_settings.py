import copy
import functools
import inspect
import pickle
import threading
from collections import Counter, defaultdict
from uuid import uuid4

import httpx
import pytest
import requests
from pydantic import (
    BaseModel,
    PrivateAttr,
    PydanticDeprecatedSince20,
    SecretStr,
    field_validator,
    model_validator,
)

from qwen_rerank import Reranker, RerankSettings, errors

_KEY = "sk-given-0123456789abcdef"
_URL = "https://dashscope.aliyuncs.com/api/v1"


def _made(**options):
    return RerankSettings(**{"api_key": _KEY, **options})


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own pickle


# Good options


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("dashscope_api_key", SecretStr("sk-theirs"), SecretStr("sk-theirs")),  # as of LangChain
        ("model", " my-own-rerank ", "my-own-rerank"),
        ("base_url", " https://gateway.example/api/v1\n", "https://gateway.example/api/v1"),
        ("score_threshold", -1, -1.0),
        ("timeout", 10**6, 1e6),
    ],
)
def test_good_values(name, given, kept):
    """What makes sense is taken, at construction or later, without blanks at the ends."""
    later = _made()
    setattr(later, name, given)

    for settings in (RerankSettings(**{"dashscope_api_key": _KEY, name: given}), later):
        value = getattr(settings, name.removeprefix("dashscope_"))
        assert (value, type(value)) == (kept, type(kept))


# Bad options

_BAD = {
    "unknown": ({"verbose": True}, "RerankSettings has no option 'verbose'"),
    "misspelt": ({"top_k": 3}, "has no option 'top_k'; did you mean 'top_n'"),
    "of a peer": ({"k": 3}, "has no option 'k'; did you mean 'top_n'"),
    "return_documents": ({"return_documents": True}, ": documents come back anyway"),
    "model blank": ({"model": "  "}, "^model: string should have at least 1 character"),
    "top_n 0": ({"top_n": 0}, "^top_n: input should be greater than or equal to 1"),
    "top_n True": ({"top_n": True}, "^top_n: input should be a valid integer"),
    "instruct surrogate": ({"instruct": "a\ud800"}, "^instruct: input should be a valid string"),
    "threshold inf": ({"score_threshold": float("inf")}, "^score_threshold: .*finite"),
    "timeout 0": ({"timeout": 0}, "^timeout: input should be greater than 0"),
    "timeout endless": ({"timeout": 1e10}, "^timeout: .*less than or equal to 1000000$"),
    "timeout NaN": ({"timeout": float("nan")}, "^timeout: .*finite"),
    **{
        f"{name} {value}": ({name: value}, f"^{name}: input should be greater than or equal to")
        for name, value in {
            "max_retries": -1,
            "max_concurrency": 0,
            "max_documents_per_request": 0,
            "max_model_len": 15,
            "max_tokens_per_doc": 0,
            "outage_pause": -1,
        }.items()
    },
    "protocol": ({"protocol": "openai"}, "^protocol: input should be 'dashscope' or 'compat"),
    "region": ({"region": "eu-west-1"}, "^region must be one of cn-beijing"),
    "client": ({"client": object()}, "^client: must be a client of dashscope 2"),
    "a session": ({"http_client": requests.Session()}, "^http_client: must be an httpx or httpx2"),
    "cache True": ({"cache": True}, r"^cache: must be a cache with \[\]"),
    "cache class": ({"cache": dict}, "^cache: must be a cache .* or a store with mget and mset"),
    "cache Counter": ({"cache": Counter()}, "^cache: must raise KeyError .* a Counter makes up"),
    "cache defaultdict": ({"cache": defaultdict(float)}, "^cache: must raise KeyError"),
    "the last key": ({"api_key": None}, "DASHSCOPE_API_KEY"),
    "server": ({"server": "vllm"}, "^server says what answers at base_url"),
    "many": ({"top_n": 0, "timeout": 0}, "^top_n: .*; timeout: "),
}


def _assigned(settings, options):
    for name, value in options.items():
        setattr(settings, name, value)


@pytest.mark.parametrize(("options", "said"), _BAD.values(), ids=_BAD)
def test_bad_options(shown, options, said):
    """A bad option, given or assigned, is a ValueError that says which and why, and shows no key.

    A refused assignment leaves the old values, and the option counts as never given.
    """
    settings = _made()
    before = {**vars(settings)}, settings._resolved.endpoint
    calls = [lambda: _made(**options)]
    if len(options) == 1:
        calls.append(lambda: _assigned(settings, options))
    for call in calls:
        with pytest.raises(ValueError, match=said) as caught:
            call()

        assert not isinstance(caught.value, errors.RerankError)  # no call that could fail
        assert _KEY not in shown(caught.value)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert (vars(settings), settings._resolved.endpoint) == before
    assert settings.model_fields_set == {"api_key"}


def test_options_by_position(shown):
    """An option given by position is a TypeError that says how to give it, and shows no key."""
    with pytest.raises(TypeError, match=r"by name: RerankSettings\(model=\.\.\., ") as caught:
        RerankSettings(_KEY)

    assert _KEY not in shown(caught.value)


@pytest.mark.parametrize(
    ("name", "client"),
    [("http_client", httpx.AsyncClient), ("async_http_client", httpx.Client)],
)
async def test_clients_of_the_other_colour(name, client):
    """A sync client where an async one belongs, or the reverse, is refused at once."""
    with pytest.raises(ValueError, match=f"^{name}: is for"):
        _made(**{name: client()})


# Copies and pickles


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda made: made.model_copy()])
def test_copies_keep_key_and_clients(twin):
    """A copy can make the same calls, and changing it does not change the original.

    The client is in no dump.
    """
    with httpx.Client() as client:
        made = Reranker(dashscope_api_key=_KEY, http_client=client, top_n=3, base_url=_URL)

        again = twin(made)

        assert type(again) is Reranker
        assert vars(again) == vars(made)
        assert again.http_client is client
        assert again.model_fields_set == made.model_fields_set
        again.top_n = 5
        assert (made.top_n, again.top_n) == (3, 5)
        assert not any("client" in shown for shown in (repr(made), *made.model_dump()))


@pytest.mark.parametrize(
    "change",
    [
        lambda made, **options: made.model_copy(update=options),
        lambda made, **options: made.copy(update=options),
        pytest.param(
            lambda made, **options: made.__replace__(**options),
            marks=pytest.mark.skipif(not hasattr(BaseModel, "__replace__"), reason="an older one"),
        ),
    ],
    ids=["model_copy", "copy", "replace"],
)
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_every_copy_takes_another_host_and_key(change):
    """However a copy is made, what it is given is checked, and its calls go there with that key."""
    made = _made()

    again = change(made, base_url="http://127.0.0.1:7/api/v1", api_key="sk-other")

    assert again._resolved.endpoint.origin == "http://127.0.0.1:7/"
    assert again._resolved.endpoint.api_key == again.api_key == SecretStr("sk-other")
    assert made._resolved.endpoint.origin != again._resolved.endpoint.origin
    with pytest.raises(ValueError, match="top_n"):
        change(made, top_n=0)


def test_the_former_copy_is_deprecated_and_whole():
    """It warns, as pydantic's does; leaving options out would leave half a reranker."""
    made = _made()

    with pytest.warns(PydanticDeprecatedSince20):
        assert vars(made.copy()) == vars(made)
    with pytest.raises(ValueError, match="model_copy"):
        made.copy(exclude={"api_key"})


def test_an_update_is_checked_as_a_whole():
    """Options of an update that only go together are given in any order."""
    made = _made(base_url="https://dashscope.aliyuncs.com/api/v1")

    again = made.model_copy(update={"region": "ap-southeast-1", "base_url": None})

    assert again._resolved.endpoint.host == "dashscope-intl.aliyuncs.com"
    assert made._resolved.endpoint.host == "dashscope.aliyuncs.com"


def test_pickles_drop_key_and_clients():
    """A pickle keeps the options alone, loads where there is no key, and is as strict as ever."""
    with httpx.Client() as client:
        made = Reranker(api_key=_KEY, http_client=client, cache={}, top_n=3, instruct="rules")

        again = _pickled(copy.deepcopy(_pickled(made)))

    assert type(again) is Reranker
    assert again.model_dump() == made.model_dump()
    assert again.api_key is None
    assert again.http_client is again.async_http_client is again.cache is None
    assert again.model_fields_set == {"top_n", "instruct"}
    with pytest.raises(ValueError, match=r"^top_n"):
        again.top_n = 0
    assert again.top_n == 3


def test_subclasses_may_keep_more():
    """A subclass's own options and private state go along into copies and pickles.

    What it has worked out of its options is worked out anew.
    """
    made = _Mine("acme", api_key=_KEY, extra="kept")
    assert made.shouted == "KEPT"

    for again in (
        _pickled(made),
        copy.deepcopy(_pickled(made)),
        made.model_copy(),
        made.with_options(top_n=1),
    ):
        assert (again.extra, again._tenant) == ("kept", "acme")
        assert again._since == made._since
        again.extra = "other"
        assert again.shouted == "OTHER"
    assert made.shouted == "KEPT"


def test_secrets_that_subclasses_keep():
    """They go along into copies, and into no pickle, where they begin anew.

    What no pickle can hold raises, as in a pickle of any such object.
    """
    made = _Mine("acme", api_key=_KEY, headers={"x-pass": _KEY})
    made._second, made._more, made._plain = made.api_key, made.headers, {"one": 1}

    twin, again = copy.copy(made), _pickled(made)

    assert _KEY.encode() not in pickle.dumps(made)
    assert (twin._second, twin._more, twin._plain) == (made._second, made._more, {"one": 1})
    assert (again._second, again._more, again._plain) == (None, {}, {"one": 1})
    made._plain["lock"] = threading.Lock()
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(made)


class _Mine(Reranker):
    extra: str = "default"
    _tenant: str = PrivateAttr(default="nobody")
    _since: object = PrivateAttr(default_factory=uuid4)
    _second: SecretStr | None = PrivateAttr(default=None)
    _more: dict[str, SecretStr] = PrivateAttr(default_factory=dict)
    _plain: dict[str, object] = PrivateAttr(default_factory=dict)

    def __init__(self, tenant: str, **options: object) -> None:
        super().__init__(**options)
        self._tenant = tenant

    @functools.cached_property
    def shouted(self) -> str:
        """The option, loud."""
        return self.extra.upper()


def test_what_begins_anew():
    """In a copy and a pickle, all private state does that is not a subclass's."""
    assert set(Reranker._anew) == Reranker.__private_attributes__.keys()


# Assignments


def test_assignments_change_the_endpoint():
    """Whatever decides about the connection takes effect when it is assigned."""
    settings = _made()
    seen = []

    for name, value in [
        ("region", "ap-southeast-1"),
        ("workspace", "ws-1"),
        ("region", None),
        ("protocol", "compatible"),
        ("base_url", "https://gateway.example/x"),
    ]:
        setattr(settings, name, value)
        seen.append(settings._resolved.endpoint.url)

    tail = "/api/v1/services/rerank/text-rerank/text-rerank"
    assert seen == [
        f"https://dashscope-intl.aliyuncs.com{tail}",
        f"https://ws-1.ap-southeast-1.maas.aliyuncs.com{tail}",
        f"https://ws-1.cn-beijing.maas.aliyuncs.com{tail}",
        "https://ws-1.cn-beijing.maas.aliyuncs.com/compatible-api/v1/reranks",
        "https://gateway.example/x/reranks",
    ]


# Subclasses


class _Late(Reranker):
    later: "_Defined | None" = None


class _Defined(BaseModel):
    pass


def test_a_subclass_of_ones_own():
    """It may name a class that is defined later, and its own parameters show beside the options."""
    _Late.model_rebuild()
    assert _Late(api_key="k", later=_Defined()).later is not None

    class OfTenant(Reranker):
        def __init__(self, tenant: str, **options: object) -> None:
            super().__init__(headers={"x-tenant": tenant}, **options)

    first, *others = inspect.signature(OfTenant).parameters
    assert first == "tenant"
    assert "top_n" in others


class _Narrow(Reranker):
    @field_validator("model")
    @classmethod
    def _is_allowed(cls, model: str) -> str:
        if not model.startswith("qwen3-"):
            raise ValueError("not for us")
        return model

    @functools.cached_property
    def most(self) -> int:
        return 5 if self.model == "qwen3-rerank" else 50

    @model_validator(mode="after")
    def _go_together(self) -> "_Narrow":
        if (self.top_n or 0) > self.most:
            raise ValueError(f"at most {self.most}")
        if self.model == "qwen3-vl-rerank" and self.top_n == 4:
            raise ValueError("no 4 of this model")
        if self.model == "qwen3-rerank" and self.top_n == 3:
            raise ValueError("no 3 of that model")
        return self


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "gte-rerank-v2"}, "model: not for us"),
        ({"top_n": 6}, "at most 5"),
        ({"top_n": 3}, "no 3 of that model"),
        ({"top_n": 0}, "top_n: "),
    ],
)
def test_a_subclass_checks_options_of_one_call_too(options, said):
    """By its own rules; nothing is changed."""
    narrow = _Narrow(api_key=_KEY)

    for refused in (narrow.with_options, lambda **options: narrow.rerank("q", ["a"], **options)):
        with pytest.raises(ValueError, match=said):
            refused(**options)
    assert (narrow.model, narrow.top_n) == ("qwen3-rerank", None)


@pytest.mark.parametrize("names", [("model", "top_n"), ("top_n", "model")])
def test_a_subclass_checks_options_together(names):
    """Its rules about several options see all that are given, in whatever order they are."""
    narrow = _Narrow(api_key=_KEY, top_n=4)  # with either of them it is refused
    values = {"model": " qwen3-vl-rerank ", "top_n": 3}
    options = {name: values[name] for name in names}

    for made in (narrow.with_options(**options), narrow.model_copy(update=options)):
        assert (made.model, made.top_n) == ("qwen3-vl-rerank", 3)
    assert narrow._wanted(options)["model"] == "qwen3-vl-rerank"
    assert (narrow.model, narrow.top_n) == ("qwen3-rerank", 4)


@pytest.mark.parametrize("names", [("model", "top_n"), ("top_n", "model")])
def test_cached_properties_of_a_subclass(names):
    """They are those of the options that are given, and the object keeps its own."""
    narrow = _Narrow(api_key=_KEY)
    assert narrow.most == 5
    for top_n in (2, 9):
        values = {"model": "qwen3-vl-rerank", "top_n": top_n}
        options = {name: values[name] for name in names}

        assert narrow._wanted(options)["top_n"] == top_n
        assert narrow.with_options(**options).most == 50
        assert vars(narrow)["most"] == 5


def test_a_frozen_subclass_takes_options_of_one_call(connection):
    """They are no assignment."""

    class Frozen(Reranker, frozen=True):
        pass

    with Frozen(**connection) as frozen:
        assert len(frozen.rerank("a car", ["a car", "tea"], top_n=1)) == 1
