"""The report of a visit, as docs/doctor.md describes it. Nothing is asked or shown here."""

import json
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qwen_rerank import __version__

__all__ = ["Report"]

_VERSION = 1  # of its shape


class Report:
    """What was found so far, and the file that it is written to as it comes.

    Args:
        file: The file; None keeps it to the process.
        questions: Names of what is measured, None until it was.

    Raises:
        ValueError: *file* cannot be written, which is found out before anything is paid for.
    """

    def __init__(self, file: str | None, questions: Iterable[str]) -> None:
        self._file = None if file is None else Path(file)
        self.is_asked: bool = False
        """Whether a call was made; until then an earlier report stays in the file."""
        self._is_new = True
        self.fields: dict[str, Any] = {
            "version": _VERSION,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "qwen_rerank": __version__,
            "python": platform.python_version(),
            "setup": None,
            "planned": None,
            "reach": None,
            "call": None,
            **dict.fromkeys(questions),
            "spent": None,
            "problems": [],
        }
        """By name, as they are written."""
        if self._file is None:
            return
        if file == "-":
            raise ValueError("--json takes a file, because standard output shows the visit")
        try:
            with self._file.open("a") as opened:
                self._is_new = opened.tell() == 0
        except OSError as error:
            raise ValueError(f"{file} cannot be written: {error.strerror}") from None

    def write(self) -> None:
        """Writes it as far as it goes, unless that would cost an earlier one for nothing.

        Raises:
            ValueError: It cannot be written.
        """
        if self._file is None or not (self._is_new or self.is_asked):
            return
        try:
            self._file.write_text(json.dumps(self.fields, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise ValueError(f"{self._file} cannot be written: {error.strerror}") from None
