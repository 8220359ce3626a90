import numpy as np

from livseg_lib.preprocessing.recipe import Recipe, prepare_volume, show_steps
from livseg_lib.volumes import Volume


def test_steps_end_with_what_the_recipe_makes():
    voxels = np.random.default_rng(0).integers(-1024, 1024, (3, 90, 80)).astype(np.int16)
    volume = Volume(voxels, (2, 1, 1), native=None)
    recipe = Recipe(noise_filter="median", equalization="clahe", size=128)
    steps = show_steps(volume, recipe, 1)
    *titles, last = steps
    assert len(titles) == 1 + 3 + 2 + 2 and all(window.name in " ".join(titles) for window in recipe.windows)
    assert all(steps[title].shape == (90, 80) and steps[title].dtype == np.uint8 for title in titles)
    assert np.array_equal(steps[last], prepare_volume(volume, recipe)[1])
    assert len({steps[title].tobytes() for title in titles}) == len(titles)  # every step does something
    single = show_steps(volume, Recipe(("liver",), size=128), 0)
    assert single[list(single)[-1]].shape == (128, 128)


def test_steps_of_an_mr_scan_speak_of_no_hu():
    voxels = np.random.default_rng(0).integers(0, 5000, (3, 90, 80)).astype(np.int16)
    steps = show_steps(Volume(voxels, (2, 1, 1)), Recipe(("mr", "mr_wide"), size=128), 1)
    assert not any("HU" in title for title in steps)
    assert "scan, 0 to 4999" in steps
