import asyncio
import threading
import time

import pytest

from qwen_rerank._gate import Gate


def test_first_come_first_served():
    """Turns are given in the order in which they were asked for."""
    gate, order = Gate(1), []
    gate.enter(0)

    def wait(number):
        gate.enter(5)
        order.append(number)
        gate.leave()

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    gate.leave()
    for thread in threads:
        thread.join()

    assert order == [0, 1, 2, 3, 4]


def test_a_turn_is_had_once():
    """No more than the width are in, however turns are taken and given back."""
    gate = Gate(2)
    for _ in range(2):
        gate.enter(0)

    with pytest.raises(TimeoutError):
        gate.enter(0.01)
    gate.leave()
    gate.enter(0)
    with pytest.raises(TimeoutError):
        gate.enter(0.01)


def _closed_loop(gate, *, holding, waiting):
    """An event loop that was closed with calls inside and in the queue; and its calls."""
    loop = asyncio.new_event_loop()
    calls = [gate.aenter() for _ in range(holding + waiting)]
    tasks = [loop.create_task(call) for call in calls]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return loop, tasks


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_what_a_closed_loop_held_is_taken_back():
    """Ctrl-C in the middle of calls takes no turn away from those that come later."""
    gate = Gate(2)
    loop, tasks = _closed_loop(gate, holding=2, waiting=0)

    for _ in range(2):
        gate.enter(0)
    with pytest.raises(TimeoutError):
        gate.enter(0.01)
    gate.leave(loop)  # the calls of the closed loop are collected late, and give back nothing
    with pytest.raises(TimeoutError):
        gate.enter(0.01)
    gate.leave()
    gate.enter(0)
    del tasks


def test_no_turn_goes_to_a_closed_loop():
    """Who waits in a closed loop is passed over."""
    gate = Gate(1)
    gate.enter(0)
    loop, tasks = _closed_loop(gate, holding=0, waiting=3)
    later = threading.Thread(target=gate.enter, args=(5,))
    later.start()
    time.sleep(0.05)

    gate.leave()

    later.join(5)
    assert not later.is_alive()
    assert loop.is_closed()
    del tasks
