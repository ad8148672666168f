"""Rankings in the state of a LangGraph graph, through its own checkpoints."""

import inspect
import logging
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import TypeAdapter

from qwen_rerank import DeadlineError, Estimate, Hit, Image, Price, Ranking, Usage, Video

pytestmark = pytest.mark.skipif(
    "allowed_msgpack_modules" not in inspect.signature(JsonPlusSerializer).parameters,
    reason="this langgraph-checkpoint is told of no classes",
)

_HITS = (
    Hit(1, 0.9, "a long text", (2, 6), "text"),
    Hit(0, 0.5, ("words", Video("https://pictures.example/1.mp4")), kind="video"),
    Hit(2, None, Image(data=b"\xff\x00")),
    Hit(3, 0.1, {"type": "image", "text": "a", "read": date(2026, 11, 29)}, (0, 1)),
)
_RANKING = Ranking(_HITS, "m", Usage(2, 30), ("r1", "r2"), (1,), True, ((2, "why"),))


def _through(serializer, value):
    return serializer.loads_typed(serializer.dumps_typed(value))


def test_as_itself(caplog):
    """A serializer that is told of our classes gives the same values back, and warns of nothing.

    The error of a passed-through list is an error again, not its name.
    """
    serializer = JsonPlusSerializer(allowed_msgpack_modules=[Ranking, Estimate])
    degraded = replace(_RANKING, degraded=DeadlineError("late", hint="Wait.", documents=(1,)))
    price = Price(0.5, "CNY", "a page", "2026")
    estimate = Estimate(1, 8, truncated=(3,), cost=4e-06, list_price=price)

    with caplog.at_level(logging.WARNING):
        again, late, estimated = (
            _through(serializer, each) for each in (_RANKING, degraded, estimate)
        )

    assert (type(again), again, estimated) == (Ranking, _RANKING, estimate)
    assert type(late.degraded) is DeadlineError
    assert vars(late.degraded) == vars(degraded.degraded)
    assert not caplog.records


def test_as_its_plain_form():
    """A strict serializer that is told of nothing gives the plain form, a ranking in waiting."""
    again = _through(JsonPlusSerializer(allowed_msgpack_modules=None), _RANKING)

    assert again["usage"] == {
        "requests": 2, "tokens": 30, "cache_hits": 0, "cost": None, "currency": None
    }  # fmt: skip
    assert TypeAdapter(Ranking).validate_python(again) == _RANKING


_STRICT = """
import logging
from typing import TypedDict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from qwen_rerank import DeadlineError, Hit, Ranking, Video

logging.basicConfig(level="WARNING", format="logged: %(message)s")
ranking = Ranking(
    (Hit(0, 0.5, ("a", Video("https://x.example/1.mp4"))), Hit(1, 0.4, {"type": "dict"}, (0, 1))),
    "m",
    degraded=DeadlineError("late"),
)
State = TypedDict("State", {"ranking": Ranking, "hits": list[Hit]})
graph = StateGraph(State)
graph.add_sequence([("rank", lambda state: {"ranking": ranking, "hits": list(ranking)})])
graph.add_edge(START, "rank")
config = {"configurable": {"thread_id": "1"}}
compiled = graph.compile(checkpointer=InMemorySaver())
compiled.invoke({}, config)
kept = compiled.get_state(config).values
print(kept["ranking"].hits == ranking.hits == tuple(kept["hits"]), repr(kept["ranking"].degraded))
"""


def test_strict_mode():
    """LANGGRAPH_STRICT_MSGPACK takes rankings and hits that the graph's state names, silently."""
    done = subprocess.run(  # noqa: S603  our own interpreter, our own script
        [sys.executable, "-c", _STRICT],
        env=os.environ | {"LANGGRAPH_STRICT_MSGPACK": "true"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("True DeadlineError('late')\n", "")
