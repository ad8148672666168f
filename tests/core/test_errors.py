import copy
import pickle

import pytest

import qwen_rerank
from qwen_rerank import errors

_ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", _ALL)
def test_one_root(kind):
    """Catching RerankError catches every error of this project."""
    assert issubclass(kind, errors.RerankError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.RequestError, ValueError),
        (errors.DeadlineError, TimeoutError),
        (errors.DeadlineError, errors.ServiceError),
    ],
)
def test_relatives(kind, builtin):
    """A wrong call is also a ValueError, a deadline a TimeoutError and a fault of the service."""
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("kind", _ALL)
def test_retryable(kind):
    """The class alone says whether the same call may succeed later."""
    later = {"RateLimitError", "ServiceError", "DeadlineError", "ReplyError"}

    assert (kind.__name__ in later) is kind.retryable
    assert kind("no").retryable is kind.retryable


@pytest.mark.parametrize("kind", _ALL)
def test_passes_through(kind):
    """Only the caller's own mistakes are raised whatever on_error says."""
    assert (kind.__name__ in {"RequestError", "AuthenticationError"}) is not kind.passes_through


@pytest.mark.parametrize("kind", _ALL)
def test_plain(kind):
    """Facts that are not known are None and take no room in the message."""
    error = kind("it broke")

    assert str(error) == "it broke"
    assert [
        error.code,
        error.status,
        error.request_id,
        error.hint,
        error.retry_after,
    ] == [None] * 5


def test_facts_and_hint_are_in_the_message():
    """What support asks for, and what to do next, stand in the message."""
    error = errors.AuthenticationError(
        "Invalid API-key provided.",
        code="InvalidApiKey",
        status=401,
        request_id="r-1",
        hint="Set region=.",
    )

    assert (
        str(error)
        == "Invalid API-key provided. (HTTP 401, code InvalidApiKey, request id r-1)\nSet region=."
    )


def test_some_facts():
    """Only the facts that are known are listed."""
    assert str(errors.ServiceError("no", status=500)) == "no (HTTP 500)"
    assert str(errors.ReplyError("no", request_id="r")) == "no (request id r)"
    assert str(errors.QuotaError("no", hint="do this")) == "no\ndo this"


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own pickle


@pytest.mark.parametrize("kind", _ALL)
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, _pickled])
def test_survives_the_way_between_processes(kind, twin):
    """Copies and pickles keep the class and every fact."""
    facts = {
        "code": "C",
        "status": 429,
        "request_id": "r",
        "hint": "h",
        "retry_after": 1.5,
        "documents": (3, 4),
    }
    error = kind("said", **facts)

    again = twin(error)

    assert kind is type(again)
    assert {"message": "said", **facts} == {name: getattr(again, name) for name in vars(error)}
    assert str(error) == str(again)


def test_exported():
    """Every class can be imported from the front door."""
    assert sorted(errors.__all__) == errors.__all__
    assert all(getattr(qwen_rerank, name) is getattr(errors, name) for name in errors.__all__)


def test_the_tree_is_drawn():
    """The docstring of the module names every class."""
    assert all(name in errors.__doc__ for name in errors.__all__)
