import copy
import pickle

import pytest

from qwen_rerank import errors

_ALL = [getattr(errors, name) for name in errors.__all__]


def test_relatives():
    """All are a RerankError; a wrong call is a ValueError too, and a deadline a TimeoutError."""
    assert all(issubclass(kind, errors.RerankError) for kind in _ALL)
    assert issubclass(errors.RequestError, ValueError)
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.DeadlineError, errors.ServiceError)


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


def test_facts_and_hint_are_in_the_message():
    """What support asks for, and what to do next, stand in the message."""
    facts = {"code": "InvalidApiKey", "status": 401, "request_id": "r-1"}
    error = errors.AuthenticationError("Invalid key.", hint="Set region=.", **facts)

    assert str(error) == "Invalid key. (HTTP 401, code InvalidApiKey, request id r-1)\nSet region=."


def test_some_facts():
    """Only the facts that are known are listed; the others are None."""
    assert str(errors.ServiceError("no")) == "no"
    assert errors.ServiceError("no").status is errors.ServiceError("no").retry_after is None
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


def test_the_tree_is_drawn():
    """The docstring of the module names every class."""
    assert all(name in errors.__doc__ for name in errors.__all__)
