"""Whose turn it is, on one loop, without a request."""

import asyncio

import pytest

from qwen_rerank._gate import Gate


async def _enters(gate, **how):
    """Whether a turn is to be had at once; else nobody waits for it."""
    entering = asyncio.create_task(gate.enter(**how))
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    return not entering.cancelled()


async def _has_turns(gate, count):
    """Whether exactly *count* turns are to be had at once; they are given back."""
    had = [await _enters(gate) for _ in range(count + 1)]
    for _ in range(sum(had)):
        gate.leave()
    return had == [True] * count + [False]


async def test_first_come_first_served():
    """Turns are given in the order in which they were asked for."""
    gate, order = Gate(1), []
    await gate.enter()

    async def wait(number):
        await gate.enter()
        order.append(number)
        gate.leave()

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    gate.leave()
    await asyncio.gather(*waiting)

    assert order == [0, 1, 2]


@pytest.mark.parametrize("steps", range(3))
async def test_who_gives_up_takes_no_turn_away(steps):
    """Whoever is cancelled while waiting, at the moment of the handing over too, loses none."""
    gate = Gate(1)
    await gate.enter()
    tasks = [asyncio.create_task(gate.enter()) for _ in range(2)]
    await asyncio.sleep(0)

    gate.leave()
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            gate.leave()

    assert await _has_turns(gate, 1)


async def test_another_width():
    """Who is in stays in when it shrinks; when it grows, those that wait are let in first."""
    gate = Gate(2)
    await gate.enter()
    await gate.enter()

    gate.width = 1
    gate.leave()
    assert not await _enters(gate)
    gate.leave()
    assert await _has_turns(gate, 1)

    await gate.enter()
    first = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.width = 2
    assert not await _enters(gate)
    await first
    gate.width = 4
    assert await _has_turns(gate, 2)


async def test_without_queueing():
    """A turn that cannot be waited for is had over the limit, and is owed."""
    gate = Gate(1)
    await gate.enter()

    assert await _enters(gate, queue=False)
    gate.leave()

    assert not await _enters(gate)
    gate.leave()
    assert await _has_turns(gate, 1)


def test_loops_that_are_needed():
    """A loop is known to be needed for as long as any of its calls is; no loop never is."""
    gate, loop = Gate(1), object()

    for each in (loop, None, loop):
        gate.hold(each)
    gate.let_go(loop)
    assert gate.is_held_by(loop)
    assert not gate.is_held_by(object())
    assert not gate.is_held_by(None)
    gate.let_go(loop)
    assert not gate.is_held_by(loop)


def test_pauses():
    """A pause is for its route alone, no shorter one ends it, and what is over is dropped."""
    gate = Gate(1)
    for seconds, route in ((0.0, "over"), (600.0, "here"), (1.0, "here")):
        gate.hush(seconds, route)

    assert gate.quiet("here") > 500.0
    assert not gate.quiet("there")
    assert list(gate._quiet_until) == ["here"]
