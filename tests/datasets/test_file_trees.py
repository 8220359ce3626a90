import io
import zipfile
from pathlib import Path

import pytest

from livseg_lib.datasets import file_trees
from livseg_lib.datasets.file_trees import file_on_disk, list_folders, open_tree
from livseg_lib.errors import InputError

FILES = {"top.txt": b"0", "a/one": b"1", "a/b/two": b"22", "a/.hidden": b"", "__MACOSX/a/one": b""}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(params=["folder", "zip"])
def source(request, tmp_path) -> Path:
    if request.param == "zip":
        (tmp_path / "files.zip").write_bytes(zipped(FILES))
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


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("MOST_FILES", 2, "3 files, more than 2"),
        ("MOST_BYTES_IN_ZIP", 3, "unpacks to more than 3 bytes"),
        ("MOST_BYTES_IN_ZIP", 4, ""),  # as many as there are
    ],
)
def test_limits_are_kept(source, monkeypatch, limit, most, said):
    monkeypatch.setattr(file_trees, limit, most)
    if said and (limit == "MOST_FILES" or source.suffix == ".zip"):
        with pytest.raises(InputError, match=said), open_tree(source):
            pass
    else:
        with open_tree(source) as tree:
            assert len(tree.names) == 3


@pytest.mark.filterwarnings("ignore:Duplicate")
def test_odd_members_of_a_zip(tmp_path):
    leading_out = "../outside", "a/../../outside", "/away"
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for name in ("inside", *leading_out, "twice", "twice"):
            archive.writestr(name, name)
    with open_tree(tmp_path / "odd.zip") as tree:
        assert tree.names == ("inside", "twice", "twice~")
        assert [name for name, _ in tree.passed_over] == ["../outside", "a/../../outside", "away"]
    with pytest.raises(InputError, match="no files"), open_tree(tmp_path / "odd.zip" / "b"):
        pass


@pytest.mark.parametrize("name", ["absent", "plain.txt/a", "absent/a"])
def test_a_file_is_a_tree_of_itself_and_what_is_not_there_none(tmp_path, name):
    (tmp_path / "plain.txt").write_text("x")
    with open_tree(tmp_path / "plain.txt") as tree:
        assert tree.names == ("plain.txt",)
    with pytest.raises(InputError, match="folder"), open_tree(tmp_path / name):
        pass


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_zip_in_a_zip_is_a_folder(tmp_path, in_folder):
    inner = zipped({"b/one": b"1", "c.ZIP": zipped({"two": b"22"}), "__MACOSX/b/._one": b""})
    if in_folder:
        (tmp_path / "a.zip").write_bytes(inner)
        source = tmp_path
    else:
        (tmp_path / "outer.zip").write_bytes(zipped({"a.zip": inner}))
        source = tmp_path / "outer.zip"
    with open_tree(source) as tree:
        assert tree.names == ("a.zip/b/one", "a.zip/c.ZIP/two")
        with tree.open_file("a.zip/c.ZIP/two") as file:
            assert file.read() == b"22"
    with open_tree(source / "a.zip" / "b") as tree:
        assert tree.names == ("one",)
    assert file_on_disk(source / "a.zip" / "b" / "one") == (source / "a.zip" if in_folder else source)


def test_zips_that_hold_themselves_again_and_again_end(tmp_path, monkeypatch):
    content = zipped({"file": b"x"})
    for _ in range(6):
        content = zipped({"z.zip": content, "file": b"x"})
    (tmp_path / "deep.zip").write_bytes(content)
    with open_tree(tmp_path / "deep.zip") as tree:
        assert tree.names == ("file", "z.zip/file", "z.zip/z.zip/file")
        assert [name for name, reason in tree.passed_over if "too deep" in reason] == ["z.zip/z.zip/z.zip"]
    monkeypatch.setattr(file_trees, "MOST_BYTES_OF_INNER_ZIPS", 10)
    with open_tree(tmp_path / "deep.zip") as tree:
        assert tree.names == ("file",)


def test_what_cannot_be_read_in_a_zip_is_told(tmp_path):
    content = bytearray(zipped({"secret": b"x"}))
    for place in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        content[place] |= 1  # the flag of encryption, in both headers
    (tmp_path / "e.zip").write_bytes(content)
    with pytest.raises(InputError, match="encrypted: unpack the zip"), open_tree(tmp_path / "e.zip"):
        pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "e.zip").write_bytes(content)
    (tmp_path / "folder" / "broken.zip").write_bytes(content[:-30])
    (tmp_path / "folder" / "file").write_bytes(b"x")
    with open_tree(tmp_path / "folder") as tree:
        assert tree.names == ("file",)
        assert {name for name, _ in tree.passed_over} == {"e.zip/secret", "broken.zip"}
