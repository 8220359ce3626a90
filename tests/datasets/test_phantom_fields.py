"""The phantom's shapes: distances, volumes, noise that does not depend on the grid."""

import numpy as np
import pytest

from livseg_lib.datasets.phantom import fields
from livseg_lib.datasets.phantom.body import Body


@pytest.fixture(scope="module")
def cube() -> fields.Coordinates:
    """-30 .. 30 mm along each axis, every millimetre."""
    z, y, x = np.meshgrid(*[np.arange(-30, 31, dtype=np.float32)] * 3, indexing="ij")
    return fields.Coordinates(x, y, z)


def test_ellipsoid_has_its_volume_and_its_axes(cube):
    inside = fields.ellipsoid(cube, fields.Point(2, 0, -3), fields.Point(10, 15, 20)) > 0
    assert inside.sum() == pytest.approx(4 / 3 * np.pi * 10 * 15 * 20, rel=0.02)
    assert np.ptp(np.flatnonzero(inside.any((1, 2)))) == 38  # z: 2 * 20, open ends
    assert np.ptp(np.flatnonzero(inside.any((0, 1)))) == 18  # x: 2 * 10


@pytest.mark.parametrize(
    ("path", "radii", "depths"),
    [
        # thin end, thick end, 3 mm off the middle; after a bend, and beside it
        (((-10, 0), (10, 0)), [4, 6], {(30, 20): 4, (30, 40): 6, (33, 30): 5 - 3}),
        (((-10, 0), (10, 0), (10, 15)), [3, 3, 3], {(42, 40): 3, (33, 40): 3}),
    ],
)
def test_tube_measures_the_distance_to_its_surface_and_bends(cube, path, radii, depths):
    field = fields.tube(cube, [fields.Point(x, y, 0) for x, y in path], radii)
    for (row, column), depth_mm in depths.items():
        assert field[30, row, column] == pytest.approx(depth_mm)
    assert field[0, 0, 0] < -100 and field[30, 42, 25] < 0  # far away, and beside


def test_smooth_min_rounds_only_where_the_two_are_alike():
    a, b = np.array([0.0, 5.0, 50.0]), np.array([30.0, 5.0, 10.0])
    assert fields.smooth_min(a, b, 4) == pytest.approx([0.0, 4.0, 10.0])
    assert fields.smooth_max(a, b, 4) == pytest.approx([30.0, 6.0, 50.0])


def test_box_holds_every_voxel_between_the_corners(cube):
    low, high = fields.Point(-5, 3, -20), fields.Point(4, 9, 28)
    wanted = (cube.x >= -5) & (cube.x <= 4) & (cube.y >= 3) & (cube.y <= 9) & (cube.z >= -20) & (cube.z <= 28)
    box = cube.box(low, high)
    assert wanted[box].sum() == wanted.sum() == wanted[box].size


def test_noise_is_the_same_at_every_resolution_of_unit_variance_and_of_its_pitch():
    noise = fields.SmoothNoise.draw(np.random.default_rng(1), 6, 100)
    fine = np.arange(-99, 99, 1.5)
    values, coarse = noise(fine, fine, fine), noise(fine[::4], fine[::4], fine[::4])
    assert values[::4, ::4, ::4] == pytest.approx(coarse, abs=1e-5)
    assert values.std() == pytest.approx(1, abs=0.08)
    assert np.corrcoef(values[1:].ravel(), values[:-1].ravel())[0, 1] > 0.9  # 1.5 mm apart
    assert abs(np.corrcoef(values[16:].ravel(), values[:-16].ravel())[0, 1]) < 0.05  # 24 mm apart


@pytest.mark.parametrize("seed", range(2))
def test_body_finds_back_from_the_reference_frame(seed):
    body = Body.draw(np.random.default_rng(seed))
    places = np.random.default_rng(9).uniform(-90, 90, (20, 3))
    for (x, y, z), place in zip(body.to_patient(places), places, strict=True):
        there = body.coordinates(np.array([z]), np.array([y]), np.array([x]))
        assert [there.x.item(), there.y.item(), there.z.item()] == pytest.approx(place, abs=0.3)
