"""What a model's folder says of itself in JSON, read with distrust: a folder may come from anyone.

A checksum that fits only tells that nobody was careless. So each description has a schema (JSON Schema,
https://json-schema.org) that bounds every number and names every choice, and no name in it leads out of the
folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from livseg_lib.errors import InputError

MOST_BYTES = 2**24
"""Of a description; those of our trainings have some thousands."""
TELLS = 3
"""Of the faults of one description: what follows is mostly more of the same."""


def of_type(kind: str, **rules) -> dict:
    """The schema of a value of a JSON type, with more rules."""
    return {"type": kind, **rules}


def between(low: float, high: float, kind: str = "number") -> dict:
    """The schema of a number, both ends included."""
    return of_type(kind, minimum=low, maximum=high)


def list_of(item: Mapping, least: int, most: int) -> dict:
    """The schema of a list of so many items."""
    return of_type("array", items=item, minItems=least, maxItems=most)


def record(required: Mapping[str, Mapping], optional: Mapping[str, Mapping] | None = None) -> dict:
    """The schema of an object with these keys; others may be there as well, and mean nothing."""
    return of_type("object", properties={**required, **(optional or {})}, required=list(required))


NAME = of_type("string", pattern=r"^[^/\\\x00-\x1f\x7f]{1,200}\Z")
SHA256 = of_type("string", pattern=r"^[0-9a-f]{64}\Z")

Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)
"""A whole number is an int: 3.0 would pass for one, and then end where something is counted."""


def read_description(path: Path, kind: str, remedy: str) -> dict:
    """The JSON object in the file `path`. Raises InputError, naming the `kind` of model, where it is none."""
    try:
        if not path.is_file():  # pipes and devices have no end
            raise FileNotFoundError(f"there is no {path.name}")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.name} is larger than {MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
        description = json.loads(text, parse_constant=lambda name: None)  # NaN is no JSON
        if not isinstance(description, dict):
            raise TypeError(f"{path.name} holds a {type(description).__name__}, not an object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(path.parent, f"is not {kind} ({type(error).__name__}: {error}).", remedy) from error
    return description


def require(description: dict, schema: Mapping, folder: Path, kind: str, remedy: str) -> None:
    """Raise InputError unless `description` follows `schema`, saying which value does not, and why."""
    faults = [
        f"{'.'.join(map(str, fault.absolute_path))}: {fault.message[:200]}".removeprefix(": ")
        for fault in Validator(schema).iter_errors(description)
    ]
    if faults:
        raise InputError(folder, f"is not {kind} ({'; '.join(faults[:TELLS])}).", remedy)


def require_equal(found: object, expected: object, what: str, folder: Path) -> None:
    """Raise InputError unless model.json and the model itself agree in `what`."""
    if found != expected:
        problem = f"has a model.json that says {what} {expected}, but the model has {found}."
        raise InputError(folder, problem, "Copy the folder anew, as it was saved.")


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`. Raises InputError where that lies elsewhere: by a path, or by a link."""
    path = folder / name
    try:
        is_inside = (
            Path(name).name == name and "\\" not in name and folder.resolve() in path.resolve().parents
        )
    except (OSError, ValueError, RuntimeError):  # links in circles, names that no file can have
        is_inside = False
    if not is_inside:
        problem = "is not the name of a folder in that of the model."
        raise InputError(repr(name), problem, "Use it as it was saved.")
    return path


def as_tuples(values: Mapping) -> dict:
    """The same with lists as tuples, as options and recipes have them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def one_of(names: Sequence[str]) -> dict:
    """The schema of one of some names."""
    return {"enum": list(names)}
