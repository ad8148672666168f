"""Files of lists for the tests of `qwen-rerank rerank`, and what became of them."""

import json
import sys

from qwen_rerank.cli import main

COMMAND = [sys.executable, "-m", "qwen_rerank.cli", "rerank"]
RED = {"query": "a red car", "documents": ["green tea", "a red sports car"]}


class Job:
    """A bulk job with its files in *folder*."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.source, self.output, self.errors = (folder / name for name in ("in", "out", "errors"))

    def write(self, *lines):
        """Makes these the lists to rank; what is bytes stands there as it is."""
        with self.source.open("wb") as file:
            for line in lines:
                file.write(line if isinstance(line, bytes) else json.dumps(line).encode())
                file.write(b"\n")

    def write_many(self, count):
        """Makes so many different lists the lists to rank."""
        self.write(
            *(
                {
                    "id": f"q{number}",
                    "query": f"a red car, {number} years old",
                    "documents": [
                        {"id": place, "text": f"a {word} with {number} seats or leaves"}
                        for place, word in enumerate(("tea", "car", "bat", "red car"))
                    ],
                }
                for number in range(count)
            )
        )

    def arguments(self, *more, errors=True):
        """What the command is run with."""
        kept = ["--errors", str(self.errors)] * errors
        return [str(self.source), "--output", str(self.output), *kept, *more]

    def rank(self, *more, errors=True):
        """The exit code of the command."""
        return main(["rerank", *self.arguments(*more, errors=errors)])

    @property
    def ranked(self):
        """The lines of the output."""
        return read(self.output)

    @property
    def failed(self):
        """The lines of the file of errors."""
        return read(self.errors)


def read(path):
    """The JSON lines of a file, by their line number; each is there once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    numbers = [each["line"] for each in found]
    assert len(set(numbers)) == len(numbers)
    return {each.pop("line"): each for each in found}
