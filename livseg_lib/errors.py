"""One error for every input that livseg cannot use."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """A file, folder or setting that cannot be used: says which, what is wrong and what to do.

    The command line prints it as it stands and ends with exit code 2; `livseg check` lists it.
    """

    def __init__(self, where: str | Path, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{self.where}: {problem}" + (f" {remedy}" if remedy else ""))

    def __reduce__(self):  # exceptions cross process borders by their arguments
        return type(self), (self.where, self.problem, self.remedy)
