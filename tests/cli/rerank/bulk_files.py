"""Files of lists for the tests of `qwen-rerank rerank`, and what became of them."""

import json
import random
import sys

from qwen_rerank.cli import main

COMMAND = [sys.executable, "-m", "qwen_rerank.cli", "rerank"]
WORDS = "red green car tea fast slow cave bat rain snow book road".split()  # noqa: SIM905
RED = {"query": "a red car", "documents": ["green tea", "a red sports car"]}


def write(path, *lines):
    """A file of JSON lines; what is bytes stands there as it is."""
    path.write_bytes(
        b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in lines
        )
    )
    return str(path)


def many(path, count):
    """A file of that many different lists, always the same."""
    chance = random.Random(7)  # noqa: S311  no secret

    def text(length):
        return " ".join(chance.choices(WORDS, k=length))

    return write(
        path,
        *(
            {
                "id": f"q{number}",
                "query": text(3),
                "documents": [{"id": f"d{place}", "text": text(6)} for place in range(4)],
            }
            for number in range(count)
        ),
    )


def read(path):
    """The JSON lines of a file, by their line number; each is there once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    numbers = [each["line"] for each in found]
    assert len(set(numbers)) == len(numbers)
    return {each.pop("line"): each for each in found}


def rank(source, output, *arguments):
    """The exit code of the command."""
    return main(["rerank", str(source), "--output", str(output), *arguments])
