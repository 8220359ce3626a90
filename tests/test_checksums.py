"""SHA-256 of files."""

from __future__ import annotations

import hashlib

from livseg_lib.files import file_checksum, files_checksum, folder_checksums, holds_files, text_checksum


def test_a_file_has_the_sum_of_its_content_however_long_it_is(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    assert file_checksum(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    assert text_checksum("ü") == hashlib.sha256("ü".encode()).hexdigest()


def test_several_files_have_one_sum_that_knows_neither_names_nor_order(tmp_path):
    for name, content in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "3")):
        (tmp_path / name).write_text(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert files_checksum([a, b]) == files_checksum([b, c])
    assert len({files_checksum(files) for files in ([a], [a, b], [a, d], [a, c], [])}) == 5


def test_a_folder_is_whole_where_none_of_its_files_is_lost_or_changed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    known = folder_checksums(tmp_path)
    assert list(known) == ["b", "sub/a"] and holds_files(tmp_path, known)
    (tmp_path / "mine").write_text("beside")
    assert holds_files(tmp_path, known) and not holds_files(tmp_path, {})
    (tmp_path / "b").write_text("3")
    assert not holds_files(tmp_path, known)
    (tmp_path / "b").unlink()
    assert not holds_files(tmp_path, known)
