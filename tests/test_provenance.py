"""Digests of code: what they see, what they leave out, and that they are the same in every process."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from livseg_lib.datasets.phantom.writing import phantom_made_by
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.extraction import write_case
from livseg_lib.provenance import (
    NAME,
    between,
    changes,
    code_of,
    digest,
    inside,
    keep_or_make,
    list_of,
    of_type,
    read_description,
    record,
    require,
)

LEAST = 3


def _half(x):
    return x / 2


def summed(x, scale=1.0):
    """Uses a helper and a constant."""
    return scale * _half(x) + LEAST


def imported(x):
    from livseg_lib.labels import structure_mask

    return structure_mask(x, "liver")


class Twice:
    def __call__(self, x):
        return 2 * self.halved(x)

    def halved(self, x):
        return _half(x)


def by_table(name):
    return TABLE[name]


TABLE = {"sum": summed, "twice": Twice}

CHANGES = {
    "a helper": ("_half", lambda x: x / 3),
    "a constant": ("LEAST", 4),
    "an entry of a table": ("TABLE", {"sum": summed}),
}


@pytest.mark.parametrize("name, value", CHANGES.values(), ids=CHANGES)
def test_what_a_function_reaches_counts(monkeypatch, name, value):
    before = code_of(by_table)
    monkeypatch.setitem(globals(), name, value)
    assert code_of(by_table) != before
    monkeypatch.undo()
    assert code_of(by_table) == before


def test_names_imported_in_a_body_and_defaults_and_bound_values_count(monkeypatch):
    before, bound = code_of(imported), code_of(partial(summed, scale=2.0))
    monkeypatch.setattr("livseg_lib.labels.TUMOR", 7)
    assert code_of(imported) != before
    assert bound != code_of(partial(summed, scale=3.0)) and bound != code_of(summed)


def test_comments_docstrings_and_layout_do_not_count_but_the_code_does():
    def defined(text):
        space = {"__name__": "__main__"}
        exec(text, space)
        return code_of(space["f"])

    plain = defined("def f(x):\n    return x + 1\n")
    assert plain == defined('def f(x):\n    "Adds one."\n\n    # to x\n    return (x\n        + 1)\n')
    for other in ("x + 2", "x - 1"):
        assert plain != defined(f"def f(x):\n    return {other}\n")


SCALED = """
class Scaled:
    def __init__(self, by):
        self.by = by
    def __call__(self, x):
        return self.by * x
"""
DECORATED = """
import functools
def times(by):
    def decorate(function):
        @functools.wraps(function)
        def scaled(x):
            return by * function(x)
        return scaled
    return decorate
@times({})
def f(x):
    return x
"""
CACHED = """
from functools import cached_property
class f:
    @cached_property
    def half(self):
        return {}
"""
OBJECTS = "Scaled(2), Scaled(3)", "Scaled(3), Scaled(2)"
TRIED = "def f():\n    try:\n        a()\n"
FAILED = "    except ValueError:\n        c()\n"
USED = "\ndef f(x):\n    return USED(x)"
TWINS = {
    "a text in a comprehension": ("def f(x):\n    return [x({}) for each in x]", "'relu'", "'elu'"),
    "an object": (SCALED + "USED = Scaled({})" + USED, "2", "3"),
    "two objects": (SCALED + "A, B = {}\ndef f(x):\n    return A(x) - B(x)", *OBJECTS),
    "a decorator's value": (DECORATED, "2", "3"),
    "a property": (CACHED, "2", "3"),
    "a loss of Keras": ("import keras\nUSED = keras.losses.Tversky(alpha={})" + USED, "0.3", "0.4"),
    "a long tensor": ("import keras\nUSED = keras.ops.arange(5000.0) == {}" + USED, "99", "98"),
    "a long table": ("import pandas\nUSED = pandas.Series(range(999)) == {}" + USED, "99", "98"),
    "what an error skips": ("{}", f"{TRIED}        b()\n{FAILED}", f"{TRIED}{FAILED}    else:\n        b()"),
}


@pytest.mark.parametrize("text, one, other", TWINS.values(), ids=TWINS)
def test_what_a_function_holds_counts_however_it_is_held(text, one, other):
    def of(value):
        space = {"__name__": "__main__"}
        exec(text.replace("{}", value), space)
        return code_of(space["f"])

    assert of(one) == of(one) and of(one) != of(other)


def test_modules_of_a_package_count_however_they_are_named(monkeypatch):
    space = {"__name__": "__main__"}
    exec("import livseg_lib.labels\ndef f():\n    return livseg_lib.labels.TUMOR\n", space)
    exec("def g():\n    from livseg_lib import labels\n    return labels.TUMOR\n", space)
    before = code_of(space["f"]), code_of(space["g"])
    monkeypatch.setattr("livseg_lib.labels.TUMOR", 7)
    assert code_of(space["f"]) != before[0] and code_of(space["g"]) != before[1]


def test_what_is_apart_and_what_is_installed_is_left_out(monkeypatch):
    before, apart = code_of(by_table), code_of(by_table, apart=[TABLE])
    monkeypatch.setitem(TABLE, "new", print)
    assert code_of(by_table) != before and code_of(by_table, apart=[TABLE]) == apart
    installed = code_of(np.mean)
    monkeypatch.setattr(np, "mean", np.median)
    assert code_of(np.mean) != installed  # by its name alone


def test_a_digest_is_the_same_in_another_process_whatever_its_hash_seed():
    program = (
        "from livseg_lib.provenance import code_of\n"
        "from livseg_lib.preprocessing.extraction import write_case\n"
        "from livseg_lib.datasets.phantom.writing import phantom_made_by\n"
        "print(code_of(write_case), phantom_made_by())"
    )
    options = {"env": {**os.environ, "PYTHONHASHSEED": "1"}, "capture_output": True, "text": True}
    there = subprocess.run([sys.executable, "-c", program], check=True, **options).stdout
    assert there == f"{code_of(write_case)} {phantom_made_by()}\n"


def test_digests_of_values_tell_types_orders_and_arrays_apart():
    values = [1, 1.5, "1", [1, 2], [2, 1], {"a": 1}, {"a": 2}, None, np.arange(3), np.arange(3.0), b"1"]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({1, 2, 3}) == digest({3, 2, 1})


def test_changes_name_the_part_that_changed():
    before = {
        "code": {"loss": "aa", "network": "bb"},
        "settings": {"batch_size": 8},
        "windows": [["liver", -50.0, 200.0], ["bone", -500.0, 1300.0]],
        "libraries": {"python": "3.11", "keras": "3.14.0"},
    }
    now = {"code": {"loss": "cc", "network": "bb"}, "settings": {"batch_size": 4}}
    now["windows"] = [["liver", -40.0, 200.0], ["bone", -500.0, 1300.0]]
    now["libraries"] = {"python": "3.11", "keras": "3.15.0"}
    said = ["the loss", "batch_size 8 -> 4", "windows ['liver', -50.0, 200.0] -> ['liver', -40.0, 200.0]"]
    assert changes(before, before) == []
    assert changes(before, now) == [*said, "keras 3.14.0 -> 3.15.0"]
    now["libraries"]["python"] = "3.12"
    assert changes(before, now) == ["python 3.11 -> 3.12"]
    assert changes({"libraries": 5}, now)[0].startswith("libraries 5 -> ")


def test_a_result_is_made_once_and_again_when_its_record_differs(tmp_path, capsys):
    path, made = tmp_path / "scores.csv", []

    def make(text):
        made.append(text)
        path.write_text(text)

    for version, text in ((1, "first"), (1, "never"), (2, "second"), (2, "never")):
        keep_or_make(path, {"code": {"loss": version}}, partial(make, text), "fold 1")
    assert made == ["first", "second"] and path.read_text() == "second"
    kept, changed = "kept, nothing that makes it has changed", "done again, changed since: the loss"
    said = capsys.readouterr().out.splitlines()
    assert said == [f"fold 1: {each}" for each in (kept, changed, kept)]
    path.unlink()
    keep_or_make(path, {"code": {"loss": 2}}, partial(make, "third"), "fold 1")
    assert made[-1] == "third"


@pytest.fixture
def description(tmp_path):
    def write(content: str | bytes):
        (tmp_path / "model.json").write_bytes(content.encode() if isinstance(content, str) else content)
        return read_description(tmp_path / "model.json", "a toy", "Name another.")

    return write


def test_an_object_is_read_with_or_without_a_byte_order_mark(description):
    assert description('{"a": 1}') == description('\ufeff{"a": 1}') == {"a": 1}
    assert description('{"share": NaN}') == {"share": None}  # no JSON


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"x"', "[" * 100000, '{"a": ' * 5000, b"\xff\xfe\x00", "9" * 5000],
    ids=lambda content: repr(content[:6]),
)
def test_what_is_no_object_is_refused(description, content):
    with pytest.raises(InputError, match=r"is not a toy .*Name another"):
        description(content)


def test_pipes_devices_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for path in (tmp_path, *(tmp_path / name for name in ("pipe", "device", "missing"))):
        with pytest.raises(InputError, match="is not a toy"):
            read_description(path, "a toy", "Name another.")


SCHEMA = record(
    {"name": NAME, "share": between(0.0, 1.0), "sizes": list_of(between(1, 9, "integer"), 1, 3)},
    {"on": of_type("boolean")},
)
GOOD = {"name": "x", "share": 0.5, "sizes": [1, 2], "on": True, "else": "what"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("name", value) for value in (None, 3, "", "a/b", "a\\b", "a\nb", "a\n", "a\0b", "a" * 201, ["x"])),
        *(("share", value) for value in (None, "0.5", 1.7, -0.1, 1e999, True, [0.5], {})),
        *(("sizes", value) for value in (None, 3, [], [1] * 4, [0], [10], [1.0], [1.5], [True], ["1"])),
        *(("on", value) for value in (None, 0, 1, "true")),
    ],
)
def test_each_value_has_its_type_and_bounds(tmp_path, key, value):
    require(GOOD, SCHEMA, tmp_path, "a toy", "Name another.")
    with pytest.raises(InputError, match=rf"is not a toy \({key}"):
        require({**GOOD, key: value}, SCHEMA, tmp_path, "a toy", "Name another.")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "C:\\x", "a\0b", "\ud800"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(InputError, match="not the name of a folder in that of the model"):
        inside(tmp_path, name)


def test_no_link_leads_out_of_the_folder(tmp_path):
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    (model / "part").mkdir(parents=True)
    elsewhere.mkdir()
    (model / "link").symlink_to(elsewhere)
    (model / "circle").symlink_to(model / "circle")
    (model / "same").symlink_to(model / "part")
    assert inside(model, "part") == model / "part" and inside(model, "same") == model / "same"
    assert inside(model, "to_be_made") == model / "to_be_made"
    for name in ("link", "circle"):
        with pytest.raises(InputError):
            inside(model, name)
