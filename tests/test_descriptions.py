"""What a folder says of itself is believed only where it follows a schema and stays in the folder."""

from __future__ import annotations

import os

import pytest

from livseg_lib.errors import InputError
from livseg_lib.provenance import NAME, between, inside, list_of, of_type, read_description, record, require


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
