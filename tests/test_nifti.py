"""NIfTI files are believed only after a check: their bytes, their header, and where their voxels lie."""

import gzip
import os
import tracemalloc

import nibabel
import numpy as np
import pytest
from nifti_files import axis_affine, ct_like, write_nifti

from livseg_lib.errors import InputError
from livseg_lib.volumes import load_volume, save_segmentation

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


NO_SFORM = {"sform_code": 0}


def sizes(i_mm, j_mm, k_mm, qfac=1):
    return {"pixdim": [qfac, i_mm, j_mm, k_mm, 0, 0, 0, 0]}


def memory_of_refusal(path, words) -> int:
    """Bytes that were taken at most until `path` was refused."""
    tracemalloc.start()
    with pytest.raises(InputError, match=words):
        load_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# --- what a header claims


@pytest.mark.parametrize(
    ("name", "side", "words"),
    [
        ("ct.nii.gz", 15000, r"15000 x 15000 x 15000 voxels, 6,750,000,000,000 bytes, more than the limit"),
        *((name, 1000, "more than the file can hold") for name in ("ct.nii", "ct.nii.gz")),
    ],
)
def test_a_claim_of_too_much_is_refused_unallocated(tmp_path, name, side, words):
    path = write_nifti(tmp_path / name, ct_like(), dim=[3, side, side, side, 1, 1, 1, 1])
    assert memory_of_refusal(path, words) < 4 * 1024**2


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_the_limit_can_be_stated_and_counts_what_will_be_in_memory(tmp_path, dtype):
    path = write_nifti(tmp_path / "ct.nii.gz", np.zeros((7, 6, 5), dtype))
    load_volume(path, limit_bytes=7 * 6 * 5 * 2)
    with pytest.raises(InputError, match="limit of 419 bytes"):
        load_volume(path, limit_bytes=7 * 6 * 5 * 2 - 1)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        *((ct_like(size), "not a 3D volume") for size in ((4, 4), (4, 4, 4, 2), (1, 4, 4, 4))),
        (ct_like((4, 4, 4, 1, 3)), "not a 3D volume"),
        *((np.zeros((7, 6, 5), dtype), "not plain numbers") for dtype in (np.complex64, RGB)),
    ],
)
def test_only_plain_numbers_in_3d_are_read(tmp_path, stored, words):
    with pytest.raises(InputError, match=words):
        load_volume(write_nifti(tmp_path / "ct.nii.gz", stored))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        *(
            ({"dim": [n, 7, y, 5, 1, 1, 1, 1]}, "impossible shape")
            for n, y in ((0, 6), (9, 6), (3, -6), (3, 0))
        ),
        *(({"magic": each}, r"single NIfTI file.*\.hdr/\.img pairs") for each in (b"ni1", b"n+1\x01")),
        ({"datatype": 12345}, "unknown data type"),
        ({"bitpix": 8}, "8 bits a voxel"),
        *(({"vox_offset": value}, f"at byte {value:g}") for value in (100.0, -352.0, np.nan)),
        *(({"vox_offset": 1e9}, "more than the file can hold"), ({"vox_offset": 4e9}, r"at byte 4e\+09")),
        *(({"xyzt_units": 3}, "micrometres"), ({"xyzt_units": 1}, "metres")),
        *(({"srow_x": 0.0}, "singular"), ({"srow_z": [1e-9, 0.0, 0.0, 0.0]}, "singular")),
        ({"srow_z": [0.0, 0.0, np.nan, 0.0]}, "singular or not finite"),
        (sizes(0.75, 0.5, 5.0), "0.75 x 0.5 x 2.5 mm, pixdim 0.75 x 0.5 x 5 mm"),
        *(({"qoffset_x": -31.0}, "0.5 mm apart"), ({"quatern_d": 0.0}, "apart")),
        ({"quatern_b": 0.9, "quatern_c": 0.9, "quatern_d": 0.9}, "qform is impossible"),
        ({"sform_code": 0, "quatern_b": 0.9, "quatern_c": 0.9}, "qform is impossible"),
        ({"scl_slope": 2.0, "scl_inter": np.inf}, "Slope and intercept"),
        *(({"sform_code": code}, "code that does not exist") for code in (6, -1)),
        *(({"qform_code": code}, "code that does not exist") for code in (6, 32767)),
        # a handedness that is no sign, and sizes that nothing else tells, are not guessed
        *((sizes(0.75, 0.5, 2.5, q) | NO_SFORM, "qform is impossible") for q in (7.0, np.nan, np.inf, 0.5)),
        *((sizes(mm, 0.5, 2.5) | NO_SFORM, "impossible|singular") for mm in (0, np.nan, -0.75, np.inf)),
    ],
)
def test_an_impossible_header_is_refused_and_no_text_of_it_quoted(tmp_path, fields, words):
    texts = {"descrip": b"DOE^JANE", "db_name": b"DOE", "aux_file": b"DOE", "intent_name": b"DOE"}
    with pytest.raises(InputError, match=words) as caught:
        load_volume(write_nifti(tmp_path / "ct.nii.gz", ct_like(), **texts, **fields))
    assert caught.value.remedy and "DOE" not in str(caught.value)


def test_a_file_changed_by_a_conversion_of_line_ends_is_refused(tmp_path):
    path = tmp_path / "ct.nii"
    write_nifti(path, ct_like(), kind=nibabel.Nifti2Image, eol_check=[0, 0, 0, 0])
    np.testing.assert_array_equal(load_volume(path).voxels, ct_like().transpose(2, 1, 0))
    write_nifti(path, ct_like(), kind=nibabel.Nifti2Image, eol_check=[10, 26, 10, 0])
    with pytest.raises(InputError, match="line ends"):
        load_volume(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"vox_offset": 0},  # right behind the header
        *({"sform_code": 0}, {"sform_code": 2, "qform_code": 0}),  # one form is enough
        *(sizes(0.75, 0.5, 2.5, qfac=0), sizes(0.75, 0.5, 2.5, qfac=0) | NO_SFORM),
        *(sizes(0.75, 0.5, 2.5, qfac=qfac) for qfac in (np.nan, 0.5)),  # no sign: that of the sform
        {"bitpix": 0},
        *({"quatern_d": 1.0004}, {"quatern_d": 1.0004, "sform_code": 0}),  # rounded, not wrong
        *(
            sizes(*mm) | {"qform_code": code}  # not given: those of the sform
            for mm in ((0, 0, 0), (0.75, 0.5, 0), (np.nan, 0.5, 2.5), (-0.75, 0.5, -2.5))
            for code in (0, 1)
        ),
        sizes(0.75, 0.5, 2.52) | {"qoffset_x": -31.4},  # within the tolerance: the sform is what counts
    ],
)
def test_what_writers_leave_out_or_round_is_read_and_saved_for_everyone(tmp_path, fields):
    volume = load_volume(write_nifti(tmp_path / "ct.nii", ct_like(), **fields))
    np.testing.assert_array_equal(volume.voxels, ct_like().transpose(2, 1, 0))
    np.testing.assert_allclose(volume.native.affine, axis_affine(), atol=1e-6)
    assert volume.spacing_mm == pytest.approx((2.5, 0.5, 0.75))
    saved = nibabel.load(save_segmentation(volume.voxels * 0, volume, tmp_path / "s.nii"))
    np.testing.assert_allclose(saved.affine, axis_affine(), atol=1e-6)
    assert saved.header.get_zooms() == pytest.approx((0.75, 0.5, 2.5), rel=0.01)
    if "qoffset_x" not in fields:
        np.testing.assert_allclose(saved.header.get_qform(), axis_affine(), atol=2e-3)


# --- bytes


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """(path, plain voxels) of a file large enough for several deflate blocks, told by no name."""
    stored = ct_like((40, 40, 20))
    path = write_nifti(tmp_path_factory.mktemp("scan") / "ct.nii.gz", stored)
    return path.rename(path.with_name("ct.nii")), stored


def test_every_flipped_bit_is_caught_or_harmless(scan, tmp_path):
    path, stored = scan
    whole, damaged, caught = path.read_bytes(), tmp_path / "ct.nii", 0
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
def test_a_truncated_file_is_refused(scan, tmp_path, kept):
    packed = scan[0].read_bytes()
    for name, whole in (("ct.nii.gz", packed), ("ct.nii", gzip.decompress(packed))):
        damaged = tmp_path / name
        damaged.write_bytes(whole[: min(int(len(whole) * kept), len(whole) - 1)])
        with pytest.raises(InputError, match=r"truncated|empty|not a NIfTI|more than the file can hold"):
            load_volume(damaged)


@pytest.mark.parametrize("garbage", [b"x", b"\0\1\2", b"<html>" * 500])
def test_garbage_behind_a_whole_gzip_stream_is_called_so(scan, tmp_path, garbage):
    (tmp_path / "ct.nii.gz").write_bytes(scan[0].read_bytes() + garbage)
    with pytest.raises(InputError, match="whole gzip stream the file goes on with something else"):
        load_volume(tmp_path / "ct.nii.gz")


def test_a_bomb_is_refused_without_filling_memory_but_a_little_padding_is_fine(tmp_path):
    plain = write_nifti(tmp_path / "ct.nii", ct_like()).read_bytes()
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(plain + bytes(200 * 1024**2), 1, mtime=0))
    assert bomb.stat().st_size < 1_000_000
    assert memory_of_refusal(bomb, "bytes follow the voxels") < 8 * 1024**2
    bomb.write_bytes(gzip.compress(plain + bytes(1024**2), 1, mtime=0))
    np.testing.assert_array_equal(load_volume(bomb).voxels, ct_like().transpose(2, 1, 0))


JPEG = b"\xff\xd8\xff\xe0" + bytes(1000)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(JPEG), "not a NIfTI"),
        (lambda path: path.write_bytes(gzip.compress(JPEG, mtime=0)), "not a NIfTI"),
        (lambda path: path.write_bytes(gzip.compress(gzip.compress(JPEG))), "gzipped twice"),
        (lambda path: path.write_bytes(b"ab"), "truncated"),
        (lambda path: path.mkdir(), "a folder, pipe or device"),
        (os.mkfifo, "a folder, pipe or device"),  # never waited for
        (lambda path: path.symlink_to("../.git/annex/aa/0.nii.gz"), "link leads to nothing.*annex get"),
    ],
)
def test_what_is_no_nifti_says_so(tmp_path, make, words):
    path = tmp_path / "ct.nii.gz"
    make(path)
    with pytest.raises(InputError, match=words) as caught:
        load_volume(path)
    assert str(path) in str(caught.value) and caught.value.remedy
