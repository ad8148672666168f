"""CPU and wall time of one sync call, against the SDK's Client."""

import time
from contextlib import ExitStack
from functools import cache

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, at_most, ratios
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

DOCUMENTS, CHARACTERS = 50, 500
SDK = "sdk_client"
OURS = {"core": 0.7, "ours_in_langchain": 0.8, "ours_in_llama_index": 1.1}
PEERS = {"community": "langchain-community", "llama_index_peer": "llama-index-postprocessor"}


def sync_cpu(server: Server, *, quick: bool = False) -> Comparison:
    """One sync call, 50 documents of 500 characters, the three best wanted."""
    rounds, calls = (4, 10) if quick else (40, 20)
    seconds: dict[str, list[float]] = {name: [] for name in (SDK, *OURS, *PEERS)}
    waited: dict[str, list[float]] = {name: [] for name in seconds}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker()) for name in seconds}
        for _ in range(rounds + 1):
            for name, worker in workers.items():
                cpu, wall = worker.call(
                    run, contender=name, base_url=server.base_url(), calls=calls
                )
                seconds[name].append(cpu)
                waited[name].append(wall)
    against_sdk = {name: ratios(each[1:], seconds[SDK][1:]) for name, each in seconds.items()}
    return Comparison(
        what="one sync call, 50 documents of 500 characters, `top_n=3`: CPU per call against the "
        "SDK's `Client`",
        how=f"`time.process_time` over {calls} calls in the client's process, {rounds} rounds, a "
        "process for each contender, connections kept open, a server without delay. The peers are "
        "the `DashScopeRerank` classes of the two packages.",
        measures=[
            *(
                Measure(name.replace("_", " "), against_sdk[name], at_most(most))
                for name, most in OURS.items()
            ),
            *(Measure(label, against_sdk[name]) for name, label in PEERS.items()),
            Measure("core, wall time", ratios(waited["core"][1:], waited[SDK][1:]), at_most(0.75)),
        ],
        would_take="Beside aiohttp's own work and two changes of thread, about half of it, "
        "what is left is checking, planning and merging, and in the frameworks' classes their own "
        "work: reading a node's text, spans and events.",
    )


def run(contender: str, base_url: str, calls: int) -> tuple[float, float]:
    """CPU seconds of one call of *contender*, and those it took; runs in a worker."""
    call = _ready(contender, base_url)
    started, begun = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    return (time.process_time() - started) / calls, (time.perf_counter() - begun) / calls


@cache
def _ready(contender: str, base_url: str) -> contenders.Call:
    call: contenders.Call = getattr(contenders, contender)(base_url, texts(DOCUMENTS, CHARACTERS))
    for _ in range(20):
        call()
    return call
