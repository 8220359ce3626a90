import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solids import box

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.preprocessing import geometry
from livseg_lib.volumes import Volume

SHAPES = [(101, 122), (122, 101), (57, 57), (512, 512), (255, 256), (1, 7)]


def ellipse(shape, center, radii):
    """Mask whose pixel centers lie in the ellipse; center in pixels from the corner of the picture."""
    rows, columns = np.indices(shape) + 0.5
    return ((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 <= 1


def centroid(weights):
    """Center of mass in fractions of the extent, rows and columns."""
    grid = np.indices(weights.shape) + 0.5
    return (grid * weights).sum(axis=(1, 2)) / weights.sum() / weights.shape


def test_working_grid_keeps_the_extent_exactly():
    shape, spacing = geometry.working_grid((119, 512, 512), (1.6, 0.743, 0.743), (3, 1.5, 1.5))
    assert shape == (63, 254, 254)
    assert np.multiply(shape, spacing) == pytest.approx(np.multiply((119, 512, 512), (1.6, 0.743, 0.743)))
    assert geometry.working_grid((5, 6, 7), (1, 2, 3), None) == ((5, 6, 7), (1, 2, 3))
    assert geometry.working_grid((1, 8, 8), (1, 1, 1), (5, 1, 1))[0] == (1, 8, 8)


def test_pictures_without_spacing_cannot_be_resampled_or_have_a_margin_by_millimetres():
    with pytest.raises(InputError, match="voxel_size_mm"):
        geometry.working_grid((3, 8, 8), (np.nan,) * 3, (2, 1, 1))
    with pytest.raises(InputError, match="without a known spacing"):
        geometry.box_around(box(SHAPE, (0, 0, 0), (1, 1, 1)), (np.nan,) * 3, 10.0)


@given(st.integers(1, 40), st.integers(1, 40))
def test_axis_weights_average_every_sample_alike_and_are_mirror_symmetric(source, target):
    matrix = np.zeros((target, source))
    for index in range(target):
        indices, weights = geometry.axis_weights(index, source, target)
        matrix[index, indices] = weights
    assert matrix.sum(axis=1) == pytest.approx(np.ones(target), abs=1e-5) and (matrix >= 0).all()
    assert matrix == pytest.approx(matrix[::-1, ::-1], abs=1e-4)
    if target <= source:
        assert matrix.sum(axis=0) == pytest.approx(np.full(source, target / source), abs=1e-4)
    else:  # a ramp stays a ramp
        centers = np.clip((np.arange(target) + 0.5) * source / target, 0.5, source - 0.5)
        assert matrix @ (np.arange(source) + 0.5) == pytest.approx(centers, abs=1e-3)


def test_axis_weights_by_hand():
    halves = geometry.axis_weights(1, source=3, target=2)  # covers 1.5 to 3: half of sample 1, all of 2
    assert halves[0].tolist() == [1, 2] and halves[1] == pytest.approx([1 / 3, 2 / 3])
    doubled = geometry.axis_weights(1, source=2, target=4)  # center at 0.25 between the two samples
    assert doubled[0].tolist() == [0, 1] and doubled[1] == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_size_is_identity(shape):
    side = max(shape)
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(geometry.restore_plane(geometry.fit_picture(picture, side), shape), picture)
    labels = picture % 3
    assert np.array_equal(geometry.restore_plane(geometry.fit_labels(labels, side), shape), labels)


@pytest.mark.parametrize("shape", [(101, 122), (300, 271), (256, 256)])
@pytest.mark.parametrize("size", [128, 200, 256])
def test_nothing_moves_when_the_size_changes(shape, size):
    """Centroid shifts in coarse pixels. A mask of whole pixels jitters by itself: its mean shift counts."""
    rng = np.random.default_rng(0)
    label_shifts = []
    for _ in range(20):
        mask = ellipse(shape, rng.uniform(0.35, 0.65, 2) * shape, rng.uniform(0.1, 0.25, 2) * shape)
        square = centroid(geometry.fit_picture(mask.astype(np.float32), max(shape)))
        picture = geometry.fit_picture(mask.astype(np.float32), size)
        assert np.abs(centroid(picture) - square).max() * size < 0.05
        restored = geometry.restore_plane(picture, shape)
        assert restored.shape == shape
        assert (np.abs(centroid(restored) - centroid(mask)) * shape).max() / max(shape) * size < 0.05
        label_shifts.append((centroid(geometry.fit_labels(mask.astype(np.uint8), size)) - square) * size)
    assert np.abs(np.mean(label_shifts, axis=0)).max() < 0.1


def test_a_label_is_never_made_of_its_neighbours():
    labels = np.zeros((256, 256), np.uint8)
    labels[:, 100:] = 2  # a tumour beside background: no liver in between, whatever the size
    for size in (128, 200, 400):
        assert set(np.unique(geometry.fit_labels(labels, size))) == {0, 2}


def test_padding_is_black_and_on_both_sides():
    for turned in (np.array, np.transpose):
        fitted = turned(geometry.fit_picture(turned(np.full((4, 7), 9, np.uint8)), 7))
        assert np.flatnonzero(fitted[:, 0]).tolist() == [1, 2, 3, 4]


def test_half_covered_pixels_belong_to_the_structure_and_less_do_not():
    labels = np.zeros((256, 256), np.uint8)
    labels[0, 0:2], labels[10, 10] = 1, 1  # two of four pixels, one of four
    fitted = geometry.fit_labels(labels, 128)
    assert fitted[0, 0] == 1 and fitted.sum() == 1


def test_resampled_slices_average_all_the_slices_that_they_cover():
    voxels = np.arange(6, dtype=np.int16)[:, None, None] * np.full((1, 4, 4), 10, np.int16)
    coarse = [int(geometry.resample_slice(voxels, (2, 4, 4), k)[0, 0]) for k in range(2)]
    assert coarse == [10, 40]
    fine = [int(geometry.resample_slice(voxels, (12, 4, 4), k)[0, 0]) for k in range(12)]
    assert fine[:4] == [0, 2, 8, 12] and fine[-1] == 50  # 2.5 and 7.5 round to even
    assert geometry.resample_slice(voxels, (6, 4, 4), 3) is not voxels
    assert np.array_equal(geometry.resample_slice(voxels, (6, 4, 4), 3), voxels[3])


def test_resampled_labels_go_by_coverage_in_three_dimensions():
    labels = np.zeros((6, 4, 4), np.uint8)
    labels[:2] = 2
    labels[2] = 1
    coarse = [int(geometry.resample_label_slice(labels, (2, 2, 2), k)[0, 0]) for k in range(2)]
    assert coarse == [2, 0]  # liver everywhere in the first three slices, tumour in two of them


SPACING, SHAPE = (5.0, 0.7, 0.9), (7, 40, 30)


def volume() -> Volume:
    return Volume(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), SPACING)


@pytest.mark.parametrize(
    ("kind", "mask", "margin_mm", "expected"),
    [
        # ceil of 1.4, 10 and 7.8 voxels
        ("box", ((3, 10, 12), (4, 20, 15)), 7.0, (slice(1, 6), slice(0, 30), slice(4, 23))),
        ("box", ((0, 0, 25), (7, 3, 30)), 5.0, (slice(0, 7), slice(0, 11), slice(19, 30))),
        ("slices", ((3, 10, 12), (4, 20, 15)), 5.0, (slice(2, 5), slice(0, 40), slice(0, 30))),
        ("box", ((0, 0, 0), (0, 0, 0)), 5.0, None),
        ("slices", ((0, 0, 0), (0, 0, 0)), 5.0, None),
        ("scan", ((0, 0, 0), (0, 0, 0)), 5.0, (slice(0, 7), slice(0, 40), slice(0, 30))),
    ],
)
def test_a_margin_is_counted_in_millimetres_and_ends_with_the_scan(kind, mask, margin_mm, expected):
    assert geometry.BOXES[kind](box(SHAPE, *mask), SPACING, margin_mm) == expected


@given(st.data(), st.floats(0, 30, allow_subnormal=False))  # a fifth of the smallest number is 0
def test_the_box_holds_the_mask_with_its_margin(data, margin_mm):
    start = [data.draw(st.integers(0, side - 1)) for side in SHAPE]
    stop = [data.draw(st.integers(first + 1, side)) for first, side in zip(start, SHAPE, strict=True)]
    found = geometry.box_around(box(SHAPE, start, stop), SPACING, margin_mm)
    for part, first, last, mm, side in zip(found, start, stop, SPACING, SHAPE, strict=True):
        assert (first - part.start) * mm >= margin_mm or part.start == 0
        assert (first - part.start - 1) * mm < margin_mm
        assert (part.stop - last) * mm >= margin_mm or part.stop == side
        assert (part.stop - last - 1) * mm < margin_mm
    cut = geometry.crop_volume(volume(), found)
    np.testing.assert_array_equal(cut.voxels, volume().voxels[found])
    assert cut.spacing_mm == SPACING and cut.native is None


def test_a_case_around_its_liver_reads_as_the_cut_out_part():
    labels = box(SHAPE, (3, 10, 12), (5, 20, 15)).astype(np.uint8)
    case = Case("a", "a", (), volume, lambda scan: labels, slice_numbers=tuple(range(7)))
    small = geometry.case_around_liver(case, "box", 0.0)
    scan = small.read_volume()
    np.testing.assert_array_equal(scan.voxels, volume().voxels[3:5, 10:20, 12:15])
    assert (small.read_labels(scan) == 1).all() and small.slice_numbers is None
    empty = Case("a", "a", (), volume, lambda scan: np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match=r"a: shows no liver"):
        geometry.case_around_liver(empty, "box", 5.0).read_volume()
