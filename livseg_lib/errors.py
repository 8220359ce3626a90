"""One error for every input that livseg cannot use."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """A file, folder or setting that cannot be used: says which, what is wrong and what to do.

    The command line prints it as it stands and ends with exit code 2; `livseg check` lists it under
    `code`, a short name of the kind of problem such as "shape-mismatch".
    """

    def __init__(self, where: str | Path, problem: str, remedy: str = "", code: str = "unreadable") -> None:
        self.where, self.problem, self.remedy, self.code = str(where), problem, remedy, code
        super().__init__(f"{self.where}: {problem}" + (f" {remedy}" if remedy else ""))

    def __reduce__(self):  # exceptions cross process borders by their arguments
        return type(self), (self.where, self.problem, self.remedy, self.code)
