"""The phantom's fields: boxes around voxels, noise that does not depend on the grid, the way back.

Shapes are held to the bit by test_phantom_patient.
"""

import numpy as np
import pytest

from livseg_lib.datasets.phantom import fields
from livseg_lib.datasets.phantom.body import Body


@pytest.fixture(scope="module")
def cube() -> fields.Coordinates:
    """-30 .. 30 mm along each axis, every millimetre."""
    z, y, x = np.meshgrid(*[np.arange(-30, 31, dtype=np.float32)] * 3, indexing="ij")
    return fields.Coordinates(x, y, z)


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
