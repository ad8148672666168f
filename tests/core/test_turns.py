"""Whose turn it is, among threads; `test_lifetimes.py` has it after a fork."""

import contextlib
import threading

from qwen_rerank import _turns


def test_one_at_a_time():
    """Whoever comes while another has the turn waits, and has it next; nothing is kept of it."""
    thing, order, inside, leave = {}, [], threading.Event(), threading.Event()

    def first():
        with contextlib.suppress(LookupError), _turns.turn_at(thing, 10):
            inside.set()
            leave.wait(10)
            order.append("first")
            raise LookupError  # which ends a turn like anything else

    def second():
        with _turns.turn_at(thing, 10) as mine:
            order.append(("second", mine))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    for other, is_free in (({}, True), (thing, False)):
        with _turns.turn_at(other, 0) as mine:
            assert mine is is_free
    leave.set()
    for thread in threads:
        thread.join(10)

    assert order == ["first", ("second", True)]
    with _turns.turn_at({}, 0):
        assert len(_turns._register.turns) == 1


def test_threads_never_share_a_turn():
    """Nor do many who come and go, so that the last one is gone again and again."""
    thing, inside, seen = {}, [], []

    def work():
        for _ in range(100):
            with _turns.turn_at(thing, 10) as mine:
                inside.append(mine)
                seen.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(seen) == {1}
    assert len(seen) == 800
    assert len(_turns._register.turns) <= 1
