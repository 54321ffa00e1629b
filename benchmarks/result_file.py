"""Where results are kept, one by one, so that what makes them can be broken off at any time."""

import json
import os
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.estimate.calibration.runs import Result


class FileStore:
    """Results by task and run in a file of JSON lines; one process writes.

    What a crash cut short is removed, and the run done again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def results(self, task: str) -> dict[str, Result]:
        """Every result of a task (a digest), by the key of its run; the file need not exist yet."""
        if not self.path.exists():
            return {}
        rows = [self._parsed(line, number) for number, line in enumerate(self._whole_lines(), start=1)]
        return {row["run"]: row["result"] for row in rows if row["task"] == task}

    def _whole_lines(self) -> list[str]:
        try:
            content = self.path.read_bytes()
            whole = content.rfind(b"\n") + 1
            lines = content[:whole].decode().splitlines()
            if whole < len(content):
                os.truncate(self.path, whole)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: cannot be read as a file of calibration results: {error}") from None
        return lines

    def _parsed(self, line: str, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or not row.keys() >= {"task", "run", "result"}:
            raise UserError(f"{self.path}, line {number}: expected a calibration result, got {line[:40]!r}")
        return row

    def add(self, task: str, run: str, result: Result) -> None:
        """Append one line and flush it to disk."""
        line = json.dumps({"task": task, "run": run, "result": result})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from None
