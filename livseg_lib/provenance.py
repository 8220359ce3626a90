"""What a result was made by: a digest of the code that made it and of every value, so that nothing is stale.

Names do not tell whether a loss, a network or a window is still the one that made a result. The code
itself does: `code_of` follows a function to every function, class and constant of ours that it can reach,
as they are now in memory, and hashes what Python runs (so comments, docstrings and layout do not count).
Libraries count by their versions (`library_versions`). A result is done again where its record differs
(`changes` says in which part), and is kept where it does not.

What a model's folder says of itself in JSON is read with distrust: it may come from anyone, and a checksum
that fits only tells that nobody was careless. So each description has a schema (JSON Schema,
https://json-schema.org) that bounds every number and names every choice, and no name in it leads out of the
folder.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import importlib
import inspect
import json
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import numpy as np

from livseg_lib.backend import BACKENDS, backend_name
from livseg_lib.errors import InputError
from livseg_lib.files import write_json

WITHOUT_EFFECT = (
    *("livseg_lib.errors", "livseg_lib.files", "livseg_lib.storage", "livseg_lib.provenance"),
    *("livseg_lib.processes", "livseg_lib.backend", "livseg_lib.training.fit.ProgressLines"),
)
"""Ours, but no result depends on it: how errors are said, how files are written, progress lines."""
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


def code_of(*things: object, apart: Iterable[object] = ()) -> str:
    """Digest (16 hexadecimal digits) of the code behind `things` and of all that it reaches.

    `things` are functions, classes, partials or plain values. What they use is found by name in their
    modules, in notebooks too. Not followed: installed libraries, `WITHOUT_EFFECT`, and the objects
    `apart`, such as a registry of which one entry matters (give that entry as a thing of its own).
    """
    reached = _Reached({id(each) for each in apart})
    for thing in things:
        reached.content(thing)
    return _hash(sorted(reached.digests.values()), [reached.content(thing) for thing in things])


def digest(value: object) -> str:
    """Digest (16 hexadecimal digits) of a plain value: numbers, texts, arrays, and what holds such."""
    return _hash(_Reached(set()).content(value))


def name_of(thing: str | Callable) -> str:
    """`thing` where it is a name already, else that of the function or partial."""
    return thing if isinstance(thing, str) else getattr(thing, "func", thing).__name__


def library_versions(*names: str) -> dict[str, str]:
    """Versions of those of the named packages that are installed, of Keras' backends the one in use alone."""
    found = {}
    for name in (each for each in names if each not in BACKENDS or each == backend_name()):
        try:
            found[name] = _version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


_version = cache(metadata.version)  # which parses a file; a library stays as it was imported


def made_with(*names: str) -> dict[str, str]:
    """Python and the named packages that are installed, with their versions: a part of a record."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), **library_versions(*names)}


def changes(before: Mapping, now: Mapping) -> list[str]:
    """What differs between two records (nested mappings of plain values), a phrase each.

    Entries of "code" are digests and are named alone: ["the loss", "keras 3.14.0 -> 3.15.0"]. Code in
    memory differs with Python's version as well, so then that is the whole reason.
    """
    before, now = (json.loads(json.dumps(record, default=str)) for record in (before, now))
    libraries = [record.get("libraries") for record in (before, now)]  # anything at all, where it is damaged
    pythons = [each.get("python") if isinstance(each, dict) else None for each in libraries]
    if all(pythons) and pythons[0] != pythons[1]:
        return [f"python {pythons[0]} -> {pythons[1]}"]
    return list(_differences(before, now))


def keep_or_make(path: Path, made_by: Mapping, make: Callable[[], object], name: str) -> None:
    """Call `make`, which writes the file `path`, unless it is there and was made by the same.

    `made_by` is kept beside it as `path` with the suffix .json, which is written last. Says what was done,
    and why. `name` is what the result is called in that sentence.
    """
    record = path.with_suffix(".json")
    if path.exists():
        try:
            reasons = changes(json.loads(record.read_text(encoding="utf-8")), made_by)
        except (OSError, ValueError, AttributeError):  # killed before it was written, or damaged
            reasons = ["its record"]
        if not reasons:
            print(f"{name}: kept, nothing that makes it has changed")
            return
        print(f"{name}: done again, changed since: {', '.join(reasons)}", flush=True)
    record.unlink(missing_ok=True)
    make()
    write_json(record, dict(made_by))


def _differences(before: dict, now: dict, name: str = ""):
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        label = f"{name} {key}".strip()
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, "" if key in ("libraries", "settings") else label)
        elif name == "code":
            yield f"the {key}"
        elif _holds_lists(old) and _holds_lists(new) and len(old) == len(new):
            pairs = zip(old, new, strict=True)
            yield from (f"{label} {first} -> {second}" for first, second in pairs if first != second)
        elif len(f"{old}{new}") <= 80 and not isinstance(old or new, dict):
            yield f"{label} {old} -> {new}"
        else:
            yield label


def _holds_lists(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class _Reached:
    """All code of ours reached so far: id -> (name, digest)."""

    def __init__(self, apart: set[int]) -> None:
        self.apart, self.digests, self.held = apart, {}, []

    def content(self, value: object) -> object:
        """`value` as something whose repr tells it from others, the same in every process."""
        if id(value) in self.apart:
            return "apart"
        if isinstance(value, enum.Enum):
            return (_name(type(value)), value.name, self.content(value.value))
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value
        if isinstance(value, np.ndarray):
            return (value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value)).hexdigest())
        if isinstance(value, Mapping):
            return [(self.content(key), self.content(item)) for key, item in value.items()]
        if isinstance(value, set | frozenset):
            return sorted(repr(self.content(item)) for item in value)
        if isinstance(value, list | tuple):
            return [self.content(item) for item in value]
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, partial):
            return ("partial", *map(self.content, (value.func, value.args, value.keywords)))
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, property):
            return [self.content(each) for each in (value.fget, value.fset)]
        if isinstance(value, classmethod | staticmethod):
            return self.content(value.__func__)
        if inspect.ismethod(value):
            return (self.content(value.__func__), self.content(value.__self__))
        value = inspect.unwrap(value, stop=_is_our_function) if callable(value) else value
        if isinstance(value, FunctionType | type):
            return self._reach(value)
        if hasattr(value, "to_csv"):  # a table, of which repr shows the ends alone, as of a tensor
            return (_name(type(value)), value.to_csv())
        if hasattr(value, "__array__") and not hasattr(value, "sparse"):  # an input of a network is no array
            return (_name(type(value)), self.content(np.asarray(value)))
        if dataclasses.is_dataclass(value):
            fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
            return (self._reach(type(value)), self.content(fields))
        if is_ours(type(value).__module__) and hasattr(value, "__dict__"):
            return self._reach(value)
        if " at 0x" not in (text := repr(value)):
            return (_name(type(value)), text)
        settings = value.get_config() if hasattr(value, "get_config") else getattr(value, "__dict__", {})
        plain = str | bool | int | float | tuple | dict | FunctionType
        kept = [(key, item) for key, item in settings.items() if isinstance(item, plain)]
        return (_name(type(value)), self.content(kept) or None)

    def _reach(self, thing: object) -> str:
        """The name of code of ours, or of an object of it, with a number where others have the same name.

        Lambdas get none: by their names go the digests in the models that are trained already.
        """
        name = _name(thing if isinstance(thing, FunctionType | type) else type(thing))
        if not is_ours(thing.__module__) or name in WITHOUT_EFFECT:
            return name
        if id(thing) in self.digests:
            return self.digests[id(thing)][0]
        same = sum(each.split(" ")[0] == name for each, _ in self.digests.values())
        name += f" {same + 1}" if same and not name.endswith("<lambda>") else ""
        self.held.append(thing)  # or its id could go to another
        self.digests[id(thing)] = (name, "")  # so that a circle ends here
        if isinstance(thing, FunctionType):
            parts = self._function(thing)
        elif isinstance(thing, type):
            parts = self._class(thing)
        else:
            parts = [self._reach(type(thing)), self.content(vars(thing))]
        self.digests[id(thing)] = (name, _hash(parts))
        return name

    def _function(self, function: FunctionType) -> list:
        code, cells = function.__code__, [_held(cell) for cell in function.__closure__ or ()]
        values = (function.__defaults__, function.__kwdefaults__, cells)
        return [self._code(code), [self.content(each) for each in values], self._globals(function)]

    def _class(self, cls: type) -> list:
        if issubclass(cls, enum.Enum):
            return [(member.name, self.content(member.value)) for member in cls]
        skipped = ("__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__qualname__")
        members = [(key, item) for key, item in vars(cls).items() if key not in skipped and key[:4] != "_abc"]
        kept = [(key, item) for key, item in members if not key.startswith("__") or callable(item)]
        return [[self.content(base) for base in cls.__bases__], [(k, self.content(v)) for k, v in kept]]

    def _code(self, code: CodeType) -> list:
        constants = [self.content(each) for each in code.co_consts]
        if constants and isinstance(constants[0], str) and _has_docstring(code):
            constants[0] = None
        handlers = [code.co_exceptiontable] if code.co_exceptiontable else []
        return [code.co_code, constants, code.co_names, code.co_freevars, *handlers]

    def _globals(self, function: FunctionType) -> list:
        """What the names in a function stand for: its module's, and those of modules of ours it uses."""
        space, names = function.__globals__, set(_names(function.__code__))
        found = [(name, space[name]) for name in sorted(names) if name in space]
        imported = [importlib.import_module(name) for name in sorted(names) if name.startswith("livseg_lib")]
        modules = [each for _, each in found if isinstance(each, ModuleType)] + imported
        for module in modules:  # which grows: the names may lead from a package to modules in it
            if is_ours(module.__name__):
                more = [(name, getattr(module, name)) for name in sorted(names) if hasattr(module, name)]
                found += more
                modules += [each for _, each in more if isinstance(each, ModuleType) and each not in modules]
        return [(name, self.content(value)) for name, value in found]


def _names(code: CodeType):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _has_docstring(code: CodeType) -> bool:
    """Whether its first constant, a text, is one; before Python 3.13 that of a named function always is."""
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & 0x4000000)  # CO_HAS_DOCSTRING
    return not code.co_name.startswith("<")


def _held(cell: object) -> object:
    with suppress(ValueError):  # a name that has no value yet
        return cell.cell_contents


def _name(thing: object) -> str:
    return f"{getattr(thing, '__module__', None)}.{getattr(thing, '__qualname__', repr(type(thing)))}"


def _is_our_function(thing: object) -> bool:
    """Whether `thing` is a function that stands in our code, such as what a decorator of ours returns."""
    return isinstance(thing, FunctionType) and is_ours(thing.__globals__.get("__name__"))


def is_ours(module: str | None) -> bool:
    """Whether code in `module` can change: our library, a notebook, a file beside it."""
    if not module or module in WITHOUT_EFFECT:
        return False
    if module.partition(".")[0] in ("livseg_lib", "__main__"):
        return True
    path = getattr(sys.modules.get(module), "__file__", None)
    return path is not None and _can_change(path)


@cache
def _can_change(path: str) -> bool:
    installed = {"site-packages", "dist-packages"} & set(Path(path).parts)
    return not installed and _STANDARD_LIBRARY not in Path(path).resolve().parents


MOST_BYTES = 2**24  # of a description; those of our trainings have some thousands
TELLS = 3  # of the faults of one description: what follows is mostly more of the same


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
IRI = "rfc3987_syntax"
"""If installed, jsonschema makes 38 parsers by it at import: a second, and no schema here needs one."""


def import_jsonschema() -> ModuleType:
    """jsonschema without these parsers; to be called before papermill, nbformat and others import it."""
    if is_unused := IRI not in sys.modules:
        sys.modules[IRI] = None  # as if it were not installed
    import jsonschema.validators

    if is_unused:
        sys.modules.pop(IRI, None)
    return jsonschema


def validator(schema: Mapping):
    """Of jsonschema, Draft 2020-12. A whole number is an int: 3.0 would end where something is counted."""
    jsonschema = import_jsonschema()
    plain = jsonschema.Draft202012Validator
    types = plain.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(plain, type_checker=types)(schema)


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
        for fault in validator(schema).iter_errors(description)
    ]
    if faults:
        raise InputError(folder, f"is not {kind} ({'; '.join(faults[:TELLS])}).", remedy)


def require_equal(found: object, expected: object, what: str, folder: Path) -> None:
    """Raise InputError unless model.json and the model itself agree in `what`."""
    if found != expected:
        problem = f"has a model.json that says {what} {expected}, but the model has {found}."
        raise InputError(folder, problem, "Copy the folder again, as it was saved.")


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`. Raises InputError where that lies elsewhere: by a path, or by a link."""
    path, is_inside = folder / name, False
    with suppress(OSError, ValueError, RuntimeError):  # links in circles, names that no file can have
        is_name = Path(name).name == name and "\\" not in name
        is_inside = is_name and folder.resolve() in path.resolve(strict=path.is_symlink()).parents
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
