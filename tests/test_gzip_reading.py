from __future__ import annotations

import gzip
import os
import tracemalloc

import numpy as np
import pytest
from nifti_files import ct_like, write_nifti

from livseg_lib.errors import InputError
from livseg_lib.volumes import load_volume


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """(path, plain voxels) of a file large enough for several deflate blocks."""
    stored = ct_like((40, 40, 20))
    return write_nifti(tmp_path_factory.mktemp("scan") / "ct.nii.gz", stored), stored


def test_every_flipped_bit_is_caught_or_harmless(scan, tmp_path):
    path, stored = scan
    whole, damaged, caught = path.read_bytes(), tmp_path / "ct.nii.gz", 0
    rng = np.random.default_rng(0)
    places = [*range(20), *rng.integers(20, len(whole) - 8, 60), *range(len(whole) - 8, len(whole))]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(load_volume(damaged).voxels, stored.transpose(2, 1, 0))
        except InputError:
            caught += 1
    assert caught >= 68  # all in data and checksum; time stamp and the like in gzip's header do no harm


@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.001, 0.5, 0.99, 1.0])
def test_a_truncated_gzip_is_refused(scan, tmp_path, kept):
    whole = scan[0].read_bytes()
    damaged = tmp_path / "ct.nii.gz"
    damaged.write_bytes(whole[: min(int(len(whole) * kept), len(whole) - 1)])
    with pytest.raises(InputError, match=r"truncated|empty|not a NIfTI|more than the file can hold"):
        load_volume(damaged)


def test_a_truncated_plain_file_is_refused_before_reading(tmp_path):
    path = write_nifti(tmp_path / "ct.nii", ct_like())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="more than the file can hold"):
        load_volume(path)


def test_a_bomb_is_refused_without_filling_memory(tmp_path):
    plain = write_nifti(tmp_path / "ct.nii", ct_like()).read_bytes()
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(plain + bytes(200 * 1024**2), mtime=0))
    assert bomb.stat().st_size < 300_000
    tracemalloc.start()
    with pytest.raises(InputError, match="bytes follow the voxels"):
        load_volume(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024**2


def test_a_little_padding_behind_the_voxels_is_fine(tmp_path):
    stored = ct_like()
    path = write_nifti(tmp_path / "ct.nii", stored)
    path.write_bytes(path.read_bytes() + bytes(512))
    np.testing.assert_array_equal(load_volume(path).voxels, stored.transpose(2, 1, 0))


def test_gzip_is_told_by_its_bytes_not_its_name(scan, tmp_path):
    misnamed = tmp_path / "ct.nii"
    misnamed.write_bytes(scan[0].read_bytes())
    np.testing.assert_array_equal(load_volume(misnamed).voxels, scan[1].transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0" + bytes(1000), "not a NIfTI"),
        (b"ab", "truncated"),
        (gzip.compress(b"\xff\xd8\xff\xe0" + bytes(1000), mtime=0), "not a NIfTI"),
    ],
)
def test_what_is_no_nifti_says_so(tmp_path, content, words):
    path = tmp_path / "ct.nii.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_volume(path)
    assert str(path) in str(caught.value) and caught.value.remedy


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="a folder, pipe or device"):
        load_volume(tmp_path)


def test_a_link_to_nothing_and_a_pipe_are_told_and_no_pipe_is_waited_for(tmp_path):
    (tmp_path / "link.nii.gz").symlink_to("../.git/annex/objects/aa/bb/0.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for name, words in (("link", "link leads to nothing.*annex get"), ("pipe", "pipe or device")):
        with pytest.raises(InputError, match=words):
            load_volume(tmp_path / f"{name}.nii.gz")
