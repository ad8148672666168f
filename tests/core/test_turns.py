import threading

import pytest

from qwen_rerank import _turns


def test_one_at_a_time():
    """Whoever comes while another has the turn waits; after it is over, the next one has it."""
    thing, order = {}, []
    inside, leave = threading.Event(), threading.Event()

    def first():
        with _turns.turn_at(thing, 10):
            inside.set()
            leave.wait(10)
            order.append("first")

    def second():
        with _turns.turn_at(thing, 10) as mine:
            order.append(("second", mine))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    with _turns.turn_at({}, 0) as mine:  # another thing
        assert mine
    with _turns.turn_at(thing, 0) as mine:
        assert not mine
    leave.set()
    for thread in threads:
        thread.join(10)

    assert order == ["first", ("second", True)]
    with _turns.turn_at({}, 0):
        assert len(_turns._register.turns) == 1


def test_a_turn_that_fails_is_over():
    """What is raised in a turn ends it like anything else."""
    thing = {}
    with pytest.raises(LookupError), _turns.turn_at(thing, 1):
        raise LookupError

    with _turns.turn_at(thing, 0) as mine:
        assert mine


def test_threads_never_share_a_turn():
    """Nor do many who come and go, so that the last one is gone again and again."""
    thing, inside, seen = {}, [], []

    def work():
        for _ in range(200):
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
    assert len(seen) == 1_600
    assert len(_turns._register.turns) <= 1
