"""What is found below a folder, and what is told by its name."""

from __future__ import annotations

import os
import socket

import pytest

from livseg_lib.datasets.files import natural_key, nifti_stem, regular_files


@pytest.mark.parametrize("target", ["nowhere", "itself", "/nowhere/at/all"])
def test_a_link_to_nothing_is_an_error_of_its_own(tmp_path, target):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "itself").symlink_to(target)
    (tmp_path / "b.nii").write_bytes(b"x")
    found = regular_files(tmp_path)
    assert found.files == (tmp_path / "b.nii",)
    (note,) = found.notes
    assert (note.where, note.severity) == (tmp_path / "sub" / "itself", "error")
    assert found.named == [tmp_path / "b.nii", tmp_path / "sub" / "itself"]


def test_what_is_no_file_is_passed_over_and_told_and_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "volume-1.nii.gz")
    (tmp_path / "volume-2.nii").symlink_to("/dev/zero")
    (tmp_path / "volume-3.nii").symlink_to("volume-1.nii.gz")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("volume-4.nii")
        found = regular_files(tmp_path)
    assert found.files == () == found.dangling
    assert [(note.where.name, note.severity) for note in found.notes] == [
        (f"volume-{n}.nii{'.gz' if n == 1 else ''}", "warning") for n in (1, 2, 3, 4)
    ]


def test_hidden_names_are_left_out_and_links_to_folders_followed_once(tmp_path):
    data = tmp_path / "data"
    for name in ("b/x.nii", ".git/y.nii", "__MACOSX/z.nii", "b/._x.nii", "b/Thumbs.db"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w.nii").write_bytes(b"x")
    for name, target in (("a", "b"), ("c", elsewhere), ("up", ".."), ("b/me", "."), ("root", "/")):
        (data / name).symlink_to(target)
    (data / "b" / "link.nii").symlink_to(elsewhere / "w.nii")
    names = [path.relative_to(data).as_posix() for path in regular_files(data).files]
    assert names == ["b/link.nii", "b/x.nii", "c/w.nii"]


def test_one_file_is_itself(tmp_path):
    (tmp_path / "x.nii").write_bytes(b"x")
    assert regular_files(tmp_path / "x.nii").files == (tmp_path / "x.nii",)
    assert regular_files(tmp_path / "none.nii").dangling == (tmp_path / "none.nii",)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii", "a"),
        ("a.NII.GZ", "a"),
        ("a.b.nii.gz", "a.b"),
        ("._a.nii", None),
        (".nii", None),
        ("a.gz", None),
    ],
)
def test_names_of_nifti_files(tmp_path, name, stem):
    assert nifti_stem(tmp_path / name) == stem


def test_natural_order_bears_any_name():
    assert sorted(["liver_10", "liver_2", "1²3"], key=natural_key) == ["1²3", "liver_2", "liver_10"]
