from __future__ import annotations

import gzip
import tracemalloc

import nibabel
import numpy as np
import pytest
from nifti_files import axis_affine, ct_like, write_nifti

from livseg_lib.errors import InputError
from livseg_lib.volumes import load_volume, save_segmentation


def test_a_tiny_file_that_claims_terabytes_is_refused_at_once(tmp_path):
    dim = [3, 15000, 15000, 15000, 1, 1, 1, 1]  # 6.75 TB of int16
    path = write_nifti(tmp_path / "ct.nii.gz", ct_like(), dim=dim)
    tracemalloc.start()
    with pytest.raises(
        InputError, match=r"15000 x 15000 x 15000 voxels, 6,750,000,000,000 bytes, more than the limit"
    ):
        load_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1024**2


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_a_claim_under_the_limit_that_the_file_cannot_hold_is_refused_unallocated(tmp_path, name):
    path = write_nifti(tmp_path / name, ct_like(), dim=[3, 1000, 1000, 1000, 1, 1, 1, 1])
    tracemalloc.start()
    with pytest.raises(InputError, match="more than the file can hold"):
        load_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1024**2


def test_the_limit_can_be_stated(tmp_path):
    path = write_nifti(tmp_path / "ct.nii.gz", ct_like((7, 6, 5)))
    load_volume(path, limit_bytes=7 * 6 * 5 * 2)
    with pytest.raises(InputError, match="limit of 419 bytes"):
        load_volume(path, limit_bytes=7 * 6 * 5 * 2 - 1)


def test_the_limit_counts_what_will_be_in_memory(tmp_path):
    path = write_nifti(tmp_path / "ct.nii.gz", np.zeros((7, 6, 5), np.uint8))
    with pytest.raises(InputError, match="limit"):
        load_volume(path, limit_bytes=7 * 6 * 5)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4, 2), (4, 4, 4, 1, 3), (1, 4, 4, 4)])
def test_only_3d_is_read(tmp_path, shape):
    with pytest.raises(InputError, match="not a 3D volume"):
        load_volume(write_nifti(tmp_path / "ct.nii.gz", ct_like(shape)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dim": [0, 7, 6, 5, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [9, 7, 6, 5, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [3, 7, -6, 5, 1, 1, 1, 1]}, "impossible shape"),
        ({"dim": [3, 7, 0, 5, 1, 1, 1, 1]}, "impossible shape"),
        ({"magic": b"ni1"}, "single NIfTI file"),
        ({"magic": b"n+1\x01"}, "single NIfTI file"),
        ({"datatype": 12345}, "unknown data type"),
        ({"bitpix": 8}, "8 bits a voxel"),
        ({"vox_offset": 100.0}, "at byte 100"),
        ({"vox_offset": -352.0}, "at byte -352"),
        ({"vox_offset": np.nan}, "at byte nan"),
        ({"vox_offset": 1e9}, "more than the file can hold"),
        ({"xyzt_units": 3}, "micrometres"),
        ({"xyzt_units": 1}, "metres"),
        ({"srow_x": 0.0}, "singular"),
        ({"srow_z": [0.0, 0.0, np.nan, 0.0]}, "singular or not finite"),
        ({"srow_z": [1e-9, 0.0, 0.0, 0.0]}, "singular"),
        ({"pixdim": [1, 0.75, 0.5, 5.0, 0, 0, 0, 0]}, "0.75 x 0.5 x 2.5 mm, pixdim 0.75 x 0.5 x 5 mm"),
        ({"qoffset_x": 50.0}, "81.5 mm apart"),
        ({"quatern_b": 0.9, "quatern_c": 0.9, "quatern_d": 0.9}, "qform is impossible"),
        ({"quatern_d": 0.0}, "apart"),
        ({"sform_code": 0, "quatern_b": 0.9, "quatern_c": 0.9}, "qform is impossible"),
        ({"scl_slope": 2.0, "scl_inter": np.inf}, "Slope and intercept"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, fields, words):
    with pytest.raises(InputError, match=words) as caught:
        load_volume(write_nifti(tmp_path / "ct.nii.gz", ct_like(), **fields))
    assert caught.value.remedy


@pytest.mark.parametrize("code", [6, -1, 127, 32767])
@pytest.mark.parametrize("form", ["sform_code", "qform_code"])
def test_a_code_that_does_not_exist_does_not_choose_the_geometry(tmp_path, form, code):
    with pytest.raises(InputError, match="code that does not exist"):
        load_volume(write_nifti(tmp_path / "ct.nii", ct_like(), **{form: code}))


def test_a_file_changed_by_a_conversion_of_line_ends_is_refused(tmp_path):
    path = tmp_path / "ct.nii"
    write_nifti(path, ct_like(), kind=nibabel.Nifti2Image, eol_check=[0, 0, 0, 0])
    np.testing.assert_array_equal(load_volume(path).voxels, ct_like().transpose(2, 1, 0))
    write_nifti(path, ct_like(), kind=nibabel.Nifti2Image, eol_check=[10, 26, 10, 0])
    with pytest.raises(InputError, match="line ends"):
        load_volume(path)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_complex_and_colour_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match="not plain numbers"):
        load_volume(write_nifti(tmp_path / "ct.nii.gz", np.zeros((7, 6, 5), dtype)))


def test_half_of_a_pair_is_refused(tmp_path):
    nibabel.Nifti1Pair(ct_like(), axis_affine()).to_filename(tmp_path / "ct.img")
    with pytest.raises(InputError, match=r"single NIfTI file.*\.hdr/\.img"):
        load_volume(tmp_path / "ct.hdr")


def test_an_offset_of_zero_means_right_behind_the_header(tmp_path):
    path = write_nifti(tmp_path / "ct.nii.gz", ct_like(), vox_offset=0)
    np.testing.assert_array_equal(load_volume(path).voxels, ct_like().transpose(2, 1, 0))


@pytest.mark.parametrize("codes", [(0, 1), (2, 0)])
def test_one_form_is_enough(tmp_path, codes):
    path = write_nifti(tmp_path / "ct.nii.gz", ct_like(), sform_code=codes[0], qform_code=codes[1])
    np.testing.assert_allclose(load_volume(path).native.affine, axis_affine(), atol=1e-6)


def assert_read_as(path, affine, tmp_path):
    """With the voxels and the place of another's hand, and what is saved on it can be read by everyone."""
    volume = load_volume(path)
    np.testing.assert_array_equal(volume.voxels, ct_like().transpose(2, 1, 0))
    np.testing.assert_allclose(volume.native.affine, affine, atol=1e-6)
    saved = nibabel.load(save_segmentation(volume.voxels * 0, volume, tmp_path / "s.nii"))
    np.testing.assert_allclose(saved.affine, affine, atol=1e-6)
    np.testing.assert_allclose(saved.header.get_qform(), affine, atol=2e-3)
    assert saved.header.get_zooms() == pytest.approx((0.75, 0.5, 2.5))


@pytest.mark.parametrize("sform_code", [0, 1])
@pytest.mark.parametrize("fields", [{"pixdim": [0, 0.75, 0.5, 2.5, 0, 0, 0, 0]}, {"quatern_d": 1.0004}])
def test_a_qfac_of_zero_and_a_rounded_quaternion_are_what_the_standard_says(tmp_path, sform_code, fields):
    path = write_nifti(tmp_path / "ct.nii.gz", ct_like(), sform_code=sform_code, **fields)
    assert_read_as(path, axis_affine(), tmp_path)


@pytest.mark.parametrize(
    "pixdim", [(0, 0, 0), (0.75, 0.5, 0), (np.nan, 0.5, 2.5), (np.nan,) * 3, (-0.75, 0.5, -2.5)]
)
@pytest.mark.parametrize("qform_code", [0, 1])
def test_voxel_sizes_that_are_not_given_are_those_of_the_sform(tmp_path, pixdim, qform_code):
    fields = {"pixdim": [1, *pixdim, 0, 0, 0, 0], "qform_code": qform_code}
    assert_read_as(write_nifti(tmp_path / "ct.nii", ct_like(), **fields), axis_affine(), tmp_path)


@pytest.mark.parametrize("qfac", [7.0, np.nan, np.inf, 0.5])
def test_a_handedness_that_is_no_sign_is_not_guessed(tmp_path, qfac):
    path = write_nifti(
        tmp_path / "ct.nii", ct_like(), pixdim=[qfac, 0.75, 0.5, 2.5, 0, 0, 0, 0], sform_code=0
    )
    with pytest.raises(InputError, match="qform is impossible"):
        load_volume(path)


@pytest.mark.parametrize("pixdim", [(0, 0.5, 2.5), (np.nan, 0.5, 2.5), (-0.75, 0.5, 2.5), (np.inf, 0.5, 2.5)])
def test_voxel_sizes_that_nothing_else_tells_are_not_guessed(tmp_path, pixdim):
    path = write_nifti(tmp_path / "ct.nii", ct_like(), pixdim=[1, *pixdim, 0, 0, 0, 0], sform_code=0)
    with pytest.raises(InputError, match=r"impossible|singular"):
        load_volume(path)


@pytest.mark.parametrize("field", ["descrip", "db_name", "aux_file", "intent_name", "data_type"])
def test_no_text_of_a_header_is_ever_quoted(tmp_path, field):
    for damage in (
        {"datatype": 12345},
        {"dim": [3, 0, 1, 1, 1, 1, 1, 1]},
        {"quatern_b": 0.9, "quatern_c": 0.9},
    ):
        path = write_nifti(tmp_path / "ct.nii", ct_like(), **{field: b"DOE^JANE"}, **damage)
        with pytest.raises(InputError) as caught:
            load_volume(path)
        assert "DOE" not in str(caught.value)


def test_geometry_within_the_tolerance_is_read(tmp_path):
    pixdim = [1, 0.75, 0.5, 2.52, 0, 0, 0, 0]  # 0.8 % longer slices
    path = write_nifti(tmp_path / "ct.nii.gz", ct_like(), pixdim=pixdim, qoffset_x=31.5 - 63.0 + 0.1)
    assert load_volume(path).spacing_mm == (2.5, 0.5, 0.75)  # the sform is what counts


def test_a_header_alone_is_truncated(tmp_path):
    path = write_nifti(tmp_path / "ct.nii", ct_like())
    path.write_bytes(gzip.compress(path.read_bytes()[:200]))
    with pytest.raises(InputError, match="truncated"):
        load_volume(path)
