from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from livseg_lib.datasets import file_trees
from livseg_lib.datasets.file_trees import list_folders, open_tree
from livseg_lib.errors import InputError

FILES = {"top.txt": b"0", "a/one": b"1", "a/b/two": b"22", "a/.hidden": b"", "__MACOSX/a/one": b""}


@pytest.fixture(params=["folder", "zip"])
def source(request, tmp_path) -> Path:
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
        return tmp_path / "files.zip"
    for name, content in FILES.items():
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(content)
    return tmp_path / "files"


def test_a_zip_reads_as_a_folder_does(source):
    with open_tree(source) as tree:
        assert tree.names == ("a/b/two", "a/one", "top.txt")
        with tree.open_file("a/b/two") as file:
            assert file.read() == b"22"
    with open_tree(source / "a" / "b") as tree:
        assert tree.names == ("two",)
    assert list_folders(source) == [source, source / "a", source / "a" / "b"]


def test_limits_are_kept(source, monkeypatch):
    monkeypatch.setattr(file_trees, "MOST_FILES", 2)
    with pytest.raises(InputError, match="3 files, more than 2"), open_tree(source):
        pass
    monkeypatch.setattr(file_trees, "MOST_FILES", 3)
    monkeypatch.setattr(file_trees, "MOST_BYTES_PER_FILE", 1)
    with pytest.raises(InputError, match=r"two: The file has 2 bytes, more than 1"), open_tree(source):
        pass


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file_trees, "MOST_BYTES_IN_ZIP", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(3):
            archive.writestr(str(n), bytes(400))
    with (
        pytest.raises(InputError, match="unpacks to more than 1,000 bytes"),
        open_tree(tmp_path / "bomb.zip"),
    ):
        pass


def test_names_that_lead_out_of_the_zip_do_not_count(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for name in ("inside", "../outside", "a/../../outside"):
            archive.writestr(name, b"x")
    with open_tree(tmp_path / "evil.zip") as tree:
        assert tree.names == ("inside",)


@pytest.mark.parametrize("inside", ["", "/a"])
def test_neither_folder_nor_zip(tmp_path, inside):
    (tmp_path / "plain.txt").write_text("x")
    for name in ("plain.txt", "absent"):
        with pytest.raises(InputError, match="folder"), open_tree(Path(f"{tmp_path / name}{inside}")):
            pass


def test_a_folder_that_is_not_in_the_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
        archive.writestr("a/one", b"1")
    with pytest.raises(InputError, match="no files"), open_tree(tmp_path / "files.zip" / "b"):
        pass
