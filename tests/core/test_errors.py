import copy
import pickle

from qwen_rerank import errors

_ALL = [getattr(errors, name) for name in errors.__all__]


def test_relatives():
    """All are a RerankError; a wrong call is a ValueError too, and a deadline a TimeoutError."""
    assert all(issubclass(kind, errors.RerankError) for kind in _ALL)
    assert issubclass(errors.RequestError, ValueError)
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.DeadlineError, errors.ServiceError)


def test_whose_move_is_next():
    """The class alone says whether the same call may succeed later, and what is always raised."""
    later = {"RateLimitError", "ServiceError", "DeadlineError", "ReplyError"}
    always_raised = {"RequestError", "AuthenticationError"}

    assert {kind.__name__ for kind in _ALL if kind("no").retryable} == later
    assert {kind.__name__ for kind in _ALL if not kind("no").passes_through} == always_raised


def test_facts_and_hint_are_in_the_message():
    """What support asks for, and what to do next, stand in the message, as far as it is known."""
    facts = {"code": "InvalidApiKey", "status": 401, "request_id": "r-1"}
    error = errors.AuthenticationError("Invalid key.", hint="Set region=.", **facts)

    assert str(error) == "Invalid key. (HTTP 401, code InvalidApiKey, request id r-1)\nSet region=."
    assert str(errors.ServiceError("no", status=500)) == "no (HTTP 500)"
    assert str(errors.ServiceError("no")) == "no"
    assert errors.ServiceError("no").status is errors.ServiceError("no").retry_after is None


def test_survives_the_way_between_processes():
    """Copies and pickles keep the class and every fact."""
    facts = {
        "code": "C",
        "status": 429,
        "request_id": "r",
        "hint": "h",
        "retry_after": 1.5,
        "documents": (3, 4),
    }
    error = errors.RateLimitError("said", **facts)
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301  our own pickle

    for again in (copy.copy(error), copy.deepcopy(error), pickled):
        assert type(again) is errors.RateLimitError
        assert vars(again) == {"message": "said", **facts}
        assert str(error) == str(again)


def test_the_tree_is_drawn():
    """The docstring of the module names every class."""
    assert all(name in errors.__doc__ for name in errors.__all__)
