import os
import pickle

import nibabel
import numpy as np
import pytest
from nifti_files import ORIENTATIONS, SIDES_MM, axis_affine, ct_like, write_nifti

from livseg_lib import volumes
from livseg_lib.errors import InputError

GEOMETRY = ("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
GEOMETRY += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "datatype", "bitpix")


@pytest.fixture
def volume(tmp_path) -> volumes.Volume:
    """As read from a small file."""
    return volumes.load_volume(write_nifti(tmp_path / "ct.nii.gz", ct_like()))


def labels_like(volume: volumes.Volume, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, volume.voxels.shape, dtype=np.uint8)


def assert_round_trip(path, stored, tmp_path):
    """Voxels come in at their place, labels go out at theirs, and the header comes back bit for bit."""
    volume = volumes.load_volume(path)
    assert volume.voxels.dtype == np.int16 and volume.voxels.flags.c_contiguous
    labels = labels_like(volume)
    saved = volumes.save_segmentation(labels, volume, tmp_path / "out" / path.name)
    before, after = nibabel.load(path), nibabel.load(saved)
    for field in GEOMETRY:
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    np.testing.assert_array_equal(before.affine, after.affine)
    assert after.get_data_dtype() == stored.dtype and type(after) is type(before)
    np.testing.assert_array_equal(volumes.load_segmentation(saved, volume), labels)
    by_value = dict(zip(volume.voxels.ravel().tolist(), labels.ravel().tolist(), strict=True))
    written = np.asarray(after.dataobj)  # label and HU of one voxel meet again in the stored array
    assert all(by_value[int(stored[index])] == written[index] for index in np.ndindex(stored.shape))
    return volume


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_all_48_orientations_round_trip(tmp_path, axes, signs):
    stored, affine = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 12, axis_affine(axes, signs)
    volume = assert_round_trip(write_nifti(tmp_path / "ct.nii.gz", stored, affine), stored, tmp_path)
    by_world = dict(zip(axes, SIDES_MM, strict=True))
    assert volume.spacing_mm == (by_world[2], by_world[1], by_world[0])
    assert volume.voxel_volume_ml == pytest.approx(np.prod(SIDES_MM) / 1000)
    grid, shape = volume.native, volume.voxels.shape
    assert nibabel.aff2axcodes(grid.lps_affine) == ("S", "P", "L") and shape == grid.lps_shape
    for view, same in ((grid.to_lps(stored), volume.voxels), (grid.to_stored(grid.to_lps(stored)), stored)):
        np.testing.assert_array_equal(view, same)
        assert np.shares_memory(view, stored)
    for index in np.ndindex(shape):  # the same value at the same place in space
        i, j, k = np.rint(np.linalg.solve(affine, grid.lps_affine @ (*index, 1)))[:3].astype(int)
        assert volume.voxels[index] == stored[i, j, k]


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<f4", ">f4", "<f8", "<u2"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_types_byte_orders_and_versions_round_trip(tmp_path, dtype, kind):
    stored = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    assert_round_trip(write_nifti(tmp_path / "ct.nii", stored, kind=kind), stored, tmp_path)


@pytest.mark.parametrize(
    ("shape", "degrees"),
    [((2, 3, 4), (0, 0, 0)), ((2, 3, 4, 1), (11, -17, 8)), ((2, 3, 4), (0, 0, 40)), ((2, 3, 4), (0, 0, -40))],
)
def test_an_oblique_scan_takes_the_closest_axes_and_stays_in_its_file(tmp_path, shape, degrees):
    stored = np.arange(24, dtype=np.int16).reshape(shape)
    turn = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(*np.radians(degrees)))
    path = write_nifti(tmp_path / "ct.nii.gz", stored, turn @ axis_affine())
    volume = assert_round_trip(path, stored, tmp_path)
    np.testing.assert_array_equal(volume.voxels, stored.reshape(2, 3, 4).transpose(2, 1, 0))
    assert volume.spacing_mm == pytest.approx(SIDES_MM[::-1], rel=1e-6)


@pytest.mark.parametrize(
    ("stored", "fields", "expected"),
    [
        # 2.5 x - 1024: -1024, -1021.5 -> -1022 (even), -1016.5 -> -1016, -1014, 1476, -81024 -> clipped
        (
            np.array([0, 1, 3, 4, 1000, -32000], np.int16),
            {"scl_slope": 2.5, "scl_inter": -1024.0},
            [-1024, -1022, -1016, -1014, 1476, -32768],
        ),
        (np.array([5, -5], np.int16), {"scl_slope": 0.0, "scl_inter": 7.0}, [5, -5]),  # no slope: as stored
        (np.array([5, -5], np.int16), {"scl_slope": np.nan, "scl_inter": 7.0}, [5, -5]),
        (np.array([40000, 70000, -70000], np.int32), {}, [32767, 32767, -32768]),
    ],
)
def test_values_are_scaled_rounded_and_clipped_by_hand(tmp_path, stored, fields, expected):
    path = write_nifti(tmp_path / "ct.nii", stored.reshape(-1, 1, 1), **fields)
    assert volumes.load_volume(path).voxels.ravel().tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    stored = ct_like().astype(np.float32)
    stored[3, 2, 4] = value
    with pytest.raises(InputError, match=r"Slice 4 .*not finite"):
        volumes.load_volume(write_nifti(tmp_path / "ct.nii.gz", stored))


def test_a_segmentation_stored_in_another_order_lands_on_the_volume(tmp_path, volume):
    labels = labels_like(volume)
    image = nibabel.load(volumes.save_segmentation(labels, volume, tmp_path / "s.nii.gz"))
    turned = image.as_reoriented([[1, -1], [2, 1], [0, -1]])
    assert turned.shape != image.shape
    turned.to_filename(tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(volumes.load_segmentation(tmp_path / "turned.nii.gz", volume), labels)


def test_an_affine_mismatch_is_refused_unless_accepted(tmp_path, volume):
    stored = np.random.default_rng(0).integers(0, 3, (7, 6, 5), dtype=np.uint8)
    path = write_nifti(tmp_path / "s.nii.gz", stored, np.eye(4))
    with pytest.raises(InputError, match="mm apart"):
        volumes.load_segmentation(path, volume)
    accepted = volumes.load_segmentation(path, volume, accept_affine_mismatch=True)
    np.testing.assert_array_equal(accepted, stored.transpose(2, 1, 0))  # voxel for voxel of the stored CT
    for accept in (False, True):
        path = write_nifti(tmp_path / "s.nii.gz", stored[..., :4])
        with pytest.raises(InputError, match=r"\(4, 6, 7\).*\(5, 6, 7\)"):
            volumes.load_segmentation(path, volume, accept_affine_mismatch=accept)


def test_half_a_voxel_is_where_agreement_ends(tmp_path, volume):
    for shift_mm in (0.24, 0.26):  # the smallest side is 0.5 mm
        affine = axis_affine()
        affine[2, 3] += shift_mm
        path = write_nifti(tmp_path / f"{shift_mm}.nii", np.ones((7, 6, 5), np.uint8), affine)
    assert volumes.load_segmentation(tmp_path / "0.24.nii", volume).all()
    with pytest.raises(InputError, match=r"0\.26 mm apart"):
        volumes.load_segmentation(path, volume)


def test_other_labels_are_refused_by_name_and_number_but_can_be_read_raw(tmp_path, volume):
    stored = np.zeros((7, 6, 5), np.int16)
    stored[0, 0, :3], stored[1] = 255, -1
    path = write_nifti(tmp_path / "s.nii.gz", stored)
    with pytest.raises(InputError, match=r"-1 \(30 voxels\), 255 \(3 voxels\)"):
        volumes.load_segmentation(path, volume)
    np.testing.assert_array_equal(volumes.read_label_array(path, volume), stored.transpose(2, 1, 0))
    with pytest.raises(InputError, match="65537"):  # not wrapped to 1
        volumes.load_segmentation(write_nifti(path, np.full((7, 6, 5), 65537, np.int32)), volume)


@pytest.mark.parametrize("value", [1.5, 0.02, 0.98, -0.5, np.nan, np.inf])
def test_labels_that_are_not_integers_are_refused_and_a_hundredth_off_is_whole(tmp_path, volume, value):
    stored = np.ones((7, 6, 5), np.float32)
    stored[2, 2, 2] = value
    with pytest.raises(InputError, match=f"not integers, such as {value:g}"):
        volumes.load_segmentation(write_nifti(tmp_path / "s.nii.gz", stored), volume)
    stored[:3], stored[3], stored[4] = 0.9901, 1.00002, 2.0099
    labels = volumes.load_segmentation(write_nifti(tmp_path / "s.nii.gz", stored), volume)
    assert np.bincount(labels.ravel()).tolist() == [0, 180, 30]


@pytest.mark.parametrize("stored_as", [np.uint8, np.int16, np.int8])
@pytest.mark.parametrize("highest", [2, 13])
def test_labels_that_a_slope_moved_are_whole_again(tmp_path, volume, stored_as, highest):
    """As nibabel stores floats in an integer type: `highest` becomes its largest value."""
    labels = np.random.default_rng(2).integers(0, highest + 1, (7, 6, 5))
    slope = highest / np.iinfo(stored_as).max
    path = write_nifti(tmp_path / "s.nii.gz", np.round(labels / slope).astype(stored_as), scl_slope=slope)
    assert np.any(nibabel.load(path).get_fdata() != labels)
    np.testing.assert_array_equal(volumes.read_label_array(path, volume), labels.transpose(2, 1, 0))


@pytest.mark.parametrize("slope", [1.0078125, 0.992, 0.6, -1.0078125, 1 / 255])
def test_a_slope_that_no_labels_bring_is_not_rounded_away(tmp_path, volume, slope):
    stored = np.arange(210).astype(np.uint8).reshape(7, 6, 5)
    with pytest.raises(InputError, match="not integers"):
        volumes.load_segmentation(write_nifti(tmp_path / "s.nii.gz", stored, scl_slope=slope), volume)


def sheared_affine(axes: tuple = (0, 1, 2), signs: tuple = (-1, -1, 1), degrees: float = 20.0) -> np.ndarray:
    """Voxels of 3 x 3 mm in planes 5 mm apart (as stored axes i, j, k of a head-first scan), tilted."""
    affine = axis_affine(axes, signs, tuple((3.0, 3.0, 5.0)[axis] for axis in axes))
    along_z = axes.index(2)
    affine[1, along_z] = 5 * np.tan(np.radians(degrees))
    return affine


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::5])
def test_planes_of_a_tilted_scan_are_as_far_apart_as_they_are(tmp_path, axes, signs):
    stored, affine = ct_like(), sheared_affine(axes, signs)
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(stored, affine), path)
    volume = volumes.load_volume(path)
    assert volume.spacing_mm == pytest.approx((5.0, 3.0, 3.0), rel=1e-6)  # not 5.32 along the slope
    assert volume.voxel_volume_ml == pytest.approx(3 * 3 * 5 / 1000, rel=1e-6)
    assert volume.native.shear_degrees == pytest.approx(20.0, abs=1e-4)
    saved = volumes.save_segmentation(labels_like(volume), volume, tmp_path / "s.nii.gz")
    np.testing.assert_allclose(nibabel.load(saved).affine, affine, atol=1e-5)
    np.testing.assert_array_equal(volumes.load_segmentation(saved, volume), labels_like(volume))


def test_pixdim_of_a_tilted_scan_may_tell_the_distance_of_planes_and_its_qform_cannot_tell(tmp_path):
    image = nibabel.Nifti1Image(ct_like(), sheared_affine())
    image.header.set_zooms((3, 3, 5))
    image.header["qform_code"], image.header["quatern_d"] = 1, 1.0
    nibabel.save(image, tmp_path / "ct.nii")
    assert volumes.load_volume(tmp_path / "ct.nii").spacing_mm == pytest.approx((5.0, 3.0, 3.0), rel=1e-6)


def test_a_shear_that_no_gantry_makes_is_refused_and_rounding_is_none(tmp_path):
    nibabel.save(nibabel.Nifti1Image(ct_like(), sheared_affine(degrees=50)), tmp_path / "ct.nii")
    with pytest.raises(InputError, match="shears"):
        volumes.load_volume(tmp_path / "ct.nii")
    nibabel.save(nibabel.Nifti1Image(ct_like(), sheared_affine(degrees=0.05)), tmp_path / "ct.nii")
    assert volumes.load_volume(tmp_path / "ct.nii").voxel_volume_ml == pytest.approx(0.045, rel=1e-6)


def test_no_text_of_the_input_is_carried_over(tmp_path):
    path = tmp_path / "ct.nii.gz"
    secrets = dict.fromkeys(("descrip", "aux_file", "db_name", "intent_name"), b"JOHN DOE")
    write_nifti(path, ct_like(), **secrets)
    image = nibabel.load(path)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"JOHN DOE"))
    image.to_filename(path)
    volume = volumes.load_volume(path)
    np.testing.assert_array_equal(volume.voxels, ct_like().transpose(2, 1, 0))  # the extension is passed over
    saved = volumes.save_segmentation(labels_like(volume), volume, tmp_path / "s.nii")
    assert b"JOHN" not in saved.read_bytes()
    assert b"JOHN" not in pickle.dumps(volume)
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    assert again.native.header == volume.native.header


def test_the_same_labels_give_the_same_bytes_whole_or_not_at_all(tmp_path, volume, monkeypatch):
    target, labels = tmp_path / "out" / "s.nii.gz", labels_like(volume)
    first = volumes.save_segmentation(labels, volume, target).read_bytes()
    assert volumes.save_segmentation(labels, volume, target).read_bytes() == first
    assert first[3:8] == bytes(5)  # no file name and no time in gzip's header

    def die(source, destination):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        volumes.save_segmentation(labels_like(volume, seed=2), volume, target)
    assert target.read_bytes() == first and os.listdir(target.parent) == ["s.nii.gz"]


def test_what_cannot_be_saved_is_refused(tmp_path, volume):
    labels, target = labels_like(volume), tmp_path / "s.nii.gz"
    pictures = volumes.Volume(volume.voxels, (np.nan,) * 3)
    for bad_labels, like, path, words in (
        (labels[:-1], volume, target, "the volume's grid is"),
        (labels.astype(float), volume, target, "not integers"),
        (np.full(labels.shape, 40000, np.int32), volume, target, "do not fit"),
        (labels, volume, tmp_path / "s.png", "saved as NIfTI"),
        (labels, pictures, target, "no grid"),
    ):
        with pytest.raises(InputError, match=words):
            volumes.save_segmentation(bad_labels, like, path)
    assert not target.exists()
    assert np.isnan(pictures.voxel_volume_ml)


def test_real_ct_and_its_masks(real_ct):
    volume = volumes.load_volume(real_ct / "ircadb17" / "ct.nii.gz")
    assert volume.voxels.shape == (119, 512, 512)
    assert volume.spacing_mm == pytest.approx((1.6, 0.743, 0.743))
    liver = volumes.load_segmentation(real_ct / "ircadb17" / "mask_liver.nii.gz", volume) == 1
    assert liver.sum() == 2_106_497
    assert volume.voxels[liver].mean() == pytest.approx(99, abs=1)
    assert liver.nonzero()[2].mean() < 256  # the liver is on the left of the picture
    top = volume.voxels[100] > 300  # bone: the spine is at the bottom
    assert top.nonzero()[0].mean() > 256


LABEL_BOX = np.zeros((30, 20, 10), np.uint8)
LABEL_BOX[4:20, 3:15, 2:8], LABEL_BOX[8:12, 5:9, 3:6] = 1, 2
ORGANS = np.repeat(np.arange(104, dtype=np.uint8), 60).reshape(60, 26, 4, order="F")
MAPS = {
    "labels": (LABEL_BOX, True),
    "nothing": (LABEL_BOX * 0, True),
    "floats with a slope": ((LABEL_BOX * 127.5).astype(np.uint8), True),
    "all organs": (ORGANS, True),
    "255 for liver": (LABEL_BOX // 2 * 255, True),
    "4095 for liver": (LABEL_BOX // 2 * np.uint16(4095), True),
    "4096 for liver": (LABEL_BOX // 2 * np.uint16(4096), False),
    "a ct": (ct_like((30, 20, 10)), False),
    "a ct stored from 0": (ct_like((30, 20, 10)).clip(-1000, 1000).astype(np.uint16) + 1000, False),
    "grey levels": (np.random.default_rng(0).integers(0, 256, (30, 20, 10), dtype=np.uint8), False),
    "noise of few levels": (np.random.default_rng(0).integers(0, 40, (30, 20, 10), dtype=np.uint8), False),
    "probabilities": (np.random.default_rng(0).random((30, 20, 10), np.float32), False),
    "not a number": (np.where(LABEL_BOX, np.nan, 0).astype(np.float32), False),
    "label -1": (LABEL_BOX.astype(np.int8) - 1, True),
    "label -2": (LABEL_BOX.astype(np.int8) - 2, False),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_label_map_is_told_from_a_scan_by_its_voxels(tmp_path, name):
    stored, expected = MAPS[name]
    fields = {"scl_slope": 2 / 255} if "slope" in name else {}
    found = volumes.label_values(write_nifti(tmp_path / "x.nii.gz", stored, **fields))
    slope = fields.get("scl_slope", 1)
    assert found == (tuple(np.unique(np.rint(stored * slope)).astype(int).tolist()) if expected else ())


def test_a_map_longer_than_one_piece_is_read_to_its_end(tmp_path):
    stored = np.zeros((128, 128, 80), np.uint8)
    path = write_nifti(tmp_path / "x.nii.gz", stored)
    assert volumes.label_values(path) == (0,)
    stored = stored.astype(np.int16)
    stored[-1, -1, -1] = -1000
    assert not volumes.label_values(write_nifti(tmp_path / "x.nii.gz", stored))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated"):
        volumes.label_values(path)
