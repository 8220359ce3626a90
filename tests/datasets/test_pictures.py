"""Pictures are read or refused, and labels come back from stretched, JPEG-smeared mask pictures."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layouts import stretched
from PIL import Image
from solids import dice

from livseg_lib.datasets.files import LabelMap
from livseg_lib.datasets.pictures import MaskLevels, Picture, decide_levels, read_picture
from livseg_lib.errors import InputError

QUALITIES = st.integers(50, 95)
SEEDS = st.integers(0, 2**32 - 1)


PATH = Path("mask.png")
STRETCHED = MaskLevels(((0, 0), (127, 1), (255, 2)), smeared=True, stretched=True)


def decode_stretched(grey: np.ndarray) -> np.ndarray:
    return STRETCHED.decode(PATH, Picture(grey, lossless=False))


def decode_binary(grey: np.ndarray, level: int = 255, lossless: bool = False) -> np.ndarray:
    return MaskLevels(((0, 0), (level, 1)), smeared=not lossless).decode(PATH, Picture(grey, lossless))


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def blob(rng: np.random.Generator, size: int, share: float, smoothness: float) -> np.ndarray:
    """Random rounded shapes that cover `share` of the picture."""
    noise = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), smoothness)
    return noise > np.quantile(noise, 1 - share)


@pytest.mark.parametrize("level", [0, 1, 2, 127, 250, 255])
@pytest.mark.parametrize("decode", [decode_stretched, decode_binary])
def test_a_constant_picture_is_empty_whatever_its_level(level, decode):
    constant = np.full((50, 70), level, np.uint8)
    for grey in (constant, jpeg(constant, 50), jpeg(constant, 95)):
        labels = decode(grey)
        assert labels.dtype == np.uint8 and not labels.any()


@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_thin_mid_ring_is_smear_and_not_a_liver(times):
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (32, 32), 15, 255, -1)
    enlarged = cv2.resize(mask, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR)
    assert ((enlarged > 64) & (enlarged < 191)).sum() > 50, "the ring that this test is about"
    assert decode_binary(enlarged).max() == 1


def test_a_resized_speck_is_not_a_liver():
    """One stray pixel of a mask, enlarged twice, becomes a mid-grey patch of 2 x 2."""
    grey = np.zeros((64, 64), np.uint8)
    cv2.circle(grey, (24, 24), 12, 255, -1)
    grey[50:52, 50:52] = 137
    assert decode_binary(grey).max() == 1


@settings(max_examples=30, deadline=None)
@given(SEEDS, QUALITIES, st.floats(0.01, 0.4), st.floats(1.0, 10.0), st.integers(60, 255))
@example(0, 50, 0.25, 1.0, 128)
@example(0, 50, 0.25, 1.0, 157)
def test_jpeg_of_liver_only(seed, quality, share, smoothness, level):
    liver = blob(np.random.default_rng(seed), 128, share, smoothness)
    labels = decode_binary(jpeg((liver * level).astype(np.uint8), quality), level)
    assert labels.max() == 1
    if smoothness >= 3:  # finer shapes are mostly border, where JPEG has lost the truth
        assert dice(labels >= 1, liver) > 0.97


@settings(max_examples=30, deadline=None)
@given(SEEDS, QUALITIES, st.floats(0.1, 0.4), st.floats(5.0, 12.0), st.integers(3, 12))
def test_jpeg_of_liver_and_tumor(seed, quality, share, smoothness, radius):
    rng = np.random.default_rng(seed)
    liver = blob(rng, 128, share, smoothness)
    disc = np.zeros(liver.shape, np.uint8)
    column, row = rng.permutation(np.argwhere(liver))[0][::-1].tolist()
    cv2.circle(disc, (column, row), radius, 1, -1)
    labels = liver + (disc & liver)
    if (labels == 2).sum() < 16 or (labels == 1).sum() < 200:
        return  # a few pixels cannot survive JPEG
    decoded = decode_stretched(jpeg(stretched(labels), quality))
    assert decoded.max() == 2
    assert dice(decoded >= 1, liver) > 0.97 and dice(decoded == 2, labels == 2) > 0.75


@pytest.mark.parametrize(
    ("folder", "step", "read"),
    [("lits_slices", 5, lambda grey: grey > 127), ("lits_slices_tumor", 10, np.array)],
)
def test_real_masks_are_liver_alone_or_labels_as_they_stand(real_ct, folder, step, read):
    files = sorted((real_ct / folder / "train_masks").iterdir())
    levels = decide_levels(files)
    assert levels.decisions == ()
    for path in files[::step]:
        grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(levels.decode(path, read_picture(path)), read(grey), err_msg=path.name)


def ellipse(center: tuple[int, int], axes: tuple[int, int], size: int = 96) -> np.ndarray:
    return cv2.ellipse(np.zeros((size, size), np.uint8), (center, (2 * axes[0], 2 * axes[1]), 0), 1, -1)


def slices() -> dict[str, np.ndarray]:
    """Labels of slices that show nothing, liver, both, and a tumour with no liver around it."""
    liver, tumor = ellipse((44, 50), (30, 22)), ellipse((50, 52), (9, 8))
    both = liver + (tumor & liver)
    return {
        "empty": 0 * liver,
        "liver": liver,
        "more_liver": ellipse((40, 44), (26, 20)),
        "both": both,
        "tumor": 2 * ellipse((40, 40), (8, 9)),
    }


def write_masks(folder: Path, encode, suffix: str = ".png", names: str = "", **saving) -> list[Path]:
    """One mask a slice; `encode` makes a picture (an array or a PIL image) of labels."""
    paths = []
    for name, labels in slices().items():
        if names and name not in names.split():
            continue
        picture = encode(labels)
        paths.append(folder / f"{name}{suffix}")
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(paths[-1], **saving)
    return paths


def levels_of(*levels):
    """An encoder: levels, or colours, of labels 0, 1, 2."""
    return lambda labels: np.array(levels, np.uint8)[labels]


@pytest.mark.parametrize(
    "encode",
    [
        *(levels_of(0, 100, 200), levels_of(0, 85, 170), levels_of(0, 50, 100), levels_of(0, 206, 210)),
        *(levels_of(0, 1, 2), levels_of(1, 2, 3), levels_of(0, 1, 255), levels_of(0, 128, 254)),
        levels_of(0, 200, 100),  # told by what lies within the other
        levels_of((0, 0, 0), (255, 0, 0), (0, 255, 0)),
        levels_of((0, 0, 0), (0, 255, 0), (255, 0, 0)),
        levels_of((0, 0, 0, 0), (255, 0, 0, 255), (0, 255, 0, 255)),
        levels_of((255, 255, 255, 0), (255, 255, 255, 100), (255, 255, 255, 200)),
        levels_of((0, 0, 0, 255), (90, 90, 90, 255), (180, 180, 180, 255)),
        lambda labels: Image.fromarray((labels * 100).astype(np.uint16)),
        lambda labels: Image.fromarray(np.array([0, 32767, 65535], np.uint16)[labels]),
        lambda labels: palette(labels, [0, 0, 0, 128, 0, 0, 0, 128, 0]),
        lambda labels: palette(2 - labels, [255, 255, 255, 127, 127, 127, 0, 0, 0]),
    ],
)
def test_three_levels_are_told_by_the_whole_set(tmp_path, encode):
    levels = decide_levels(paths := write_masks(tmp_path, encode))
    for path in paths:
        decoded = levels.decode(path, read_picture(path, sixteen_bit=True))
        np.testing.assert_array_equal(decoded, slices()[path.stem], err_msg=path.name)
    assert sorted(label for _, label in levels.meaning) == [0, 1, 2]
    raw = [level for level, _ in levels.meaning] == [0, 1, 2]
    assert raw or "background, liver, tumour" in levels.decisions[-1]


def palette(indices: np.ndarray, colors: list[int]) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8), mode="P")
    picture.putpalette(colors)
    return picture


@pytest.mark.parametrize("quality", [60, 75, 95])
@pytest.mark.parametrize("levels", [(0, 100, 200), (0, 85, 170), (0, 60, 120), (0, 127, 255), (40, 120, 200)])
def test_three_levels_smeared_by_jpeg(tmp_path, quality, levels):
    paths = write_masks(tmp_path, levels_of(*levels), ".jpg", quality=quality)
    decided = decide_levels(paths)
    for path in paths:
        truth = slices()[path.stem]
        decoded = decided.decode(path, read_picture(path))
        for label in {1, 2} & set(np.unique(truth).tolist()):
            assert dice(decoded == label, truth == label) > 0.85, path.name
        assert decoded.max() == truth.max(), path.name


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_stretched_sets_take_a_lone_255_for_liver(tmp_path, suffix):
    paths = write_masks(tmp_path, stretched, suffix, names="empty liver more_liver both", quality=90)
    levels = decide_levels(paths)
    assert levels.stretched and not levels.decisions
    for path in paths:
        decoded = levels.decode(path, read_picture(path))
        assert decoded.max() == slices()[path.stem].max()
        assert path.stem == "empty" or dice(decoded >= 1, slices()[path.stem] >= 1) > 0.97


@pytest.mark.parametrize(
    "encode",
    [
        *(levels_of(0, 1, 1), levels_of(0, 255, 255), levels_of(0, 76, 76), levels_of(40, 90, 90)),
        *(levels_of((0, 0, 0), (200, 0, 0), (200, 0, 0)), levels_of((10, 40), (240, 40), (240, 40))),
        levels_of((255, 255, 255, 0), (255, 255, 255, 255), (255, 255, 255, 255)),
        levels_of((0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 255)),
        levels_of((0, 0, 0, 90), (255, 0, 0, 90), (255, 0, 0, 90)),
        lambda labels: Image.fromarray(labels > 0),
        lambda labels: Image.fromarray((labels > 0).astype(np.uint16) * 65535),
        lambda labels: palette(labels > 0, [0, 0, 0, 250, 10, 10]),
    ],
)
def test_two_levels_are_liver(tmp_path, encode):
    paths = write_masks(tmp_path, encode)
    levels = decide_levels(paths)
    for path in paths:
        decoded = levels.decode(path, read_picture(path, sixteen_bit=True))
        np.testing.assert_array_equal(decoded, slices()[path.stem] > 0, err_msg=path.name)


def test_a_smeared_edge_is_cut_halfway():
    edge = np.tile(np.array([0, 0, 0, 0, 40, 80, 99, 101, 160, 200, 200, 200], np.uint8), (12, 1))
    np.testing.assert_array_equal(decode_binary(edge, 200), edge > 100)


def test_smoothly_resized_masks_are_read_at_half(tmp_path):
    def encode(labels):
        small = cv2.resize((labels > 0).astype(np.uint8) * 255, (80, 80), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (96, 96), interpolation=cv2.INTER_LINEAR)

    levels = decide_levels(paths := write_masks(tmp_path, encode))
    assert levels.meaning == ((0, 0), (255, 1)) and levels.smeared
    for path in paths:
        decoded = levels.decode(path, read_picture(path))
        assert set(np.unique(decoded)) <= {0, 1}
        assert path.stem == "empty" or dice(decoded > 0, slices()[path.stem] > 0) > 0.97


def vessels(labels: np.ndarray) -> np.ndarray:
    """Four levels: vessels within the liver are brighter than tumours."""
    return levels_of(0, 85, 170, 255)(np.where(labels == 1, 1 + 2 * ellipse((30, 50), (4, 4)), labels))


@pytest.mark.parametrize(
    ("encode", "names", "suffix", "words"),
    [
        (levels_of(255, 0, 0), "liver more_liver", ".png", "Invert"),
        (levels_of(255, 127, 0), "liver more_liver both", ".png", "Invert"),
        (levels_of(1, 0, 0), "liver more_liver", ".png", "Invert"),
        (vessels, "liver both", ".png", "85, 170, 255"),
        (levels_of(0, 100, 200), "liver tumor", ".png", "no mask shows"),
        (levels_of((0, 0, 0), (255, 0, 0), (0, 130, 0)), "liver both", ".png", "equally bright"),
        (
            levels_of((255, 255, 255, 0), (0, 0, 0, 255), (90, 90, 90, 255)),
            "both",
            ".png",
            "transparent|none",
        ),
        (levels_of((0, 0, 0), (255, 0, 0), (0, 128, 0)), "liver both", ".jpg", r"both\.jpg"),
        (levels_of(0, 2, 5), "liver both", ".jpg", "too close"),
        (levels_of(0, 170, 240), "liver both", ".jpg", "too close"),
    ],
)
def test_what_stays_uncertain_is_refused(tmp_path, encode, names, suffix, words):
    paths = write_masks(tmp_path, encode, suffix, names=names)
    levels = decide_levels(paths)
    with pytest.raises(InputError, match=words):
        levels.decode(paths[-1], read_picture(paths[-1]))
    if encode is vessels:  # labels.json settles it
        levels = decide_levels(paths, LabelMap(liver=(85, 255), tumor=(170,)))
        np.testing.assert_array_equal(levels.decode(PATH, read_picture(paths[-1])), slices()["both"])


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize("liver, tumor", [(85, 170), (127, 255)])
def test_a_liver_that_is_but_a_rim_around_its_tumour_is_kept_where_levels_are_fixed(liver, tumor, quality):
    fixed = MaskLevels(((0, 0), (liver, 1), (tumor, 2)), smeared=True)
    labels = ellipse((48, 48), (13, 13)).astype(np.uint8) + ellipse((48, 48), (10, 10))
    picture = jpeg(np.array([0, liver, tumor], np.uint8)[labels], quality)
    decoded = fixed.decode(Path("x.jpg"), Picture(picture, lossless=False))
    for least in (1, 2):
        assert np.count_nonzero((decoded >= least) != (labels >= least)) < 0.1 * (labels >= least).sum()


def test_stretched_and_fixed_levels_in_one_set_are_refused(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    paths = write_masks(tmp_path / "a", stretched, names="liver both more_liver")
    paths += write_masks(tmp_path / "b", levels_of(0, 127, 255), names="liver both")
    assert "stretched" in decide_levels(paths).problem


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_raw_labels_in_a_smeared_set_are_not_taken_for_nothing(tmp_path, suffix):
    paths = write_masks(tmp_path, levels_of(0, 255, 255), ".jpg", names="liver more_liver")
    (tmp_path / "raw").mkdir()
    raw = write_masks(tmp_path / "raw", levels_of(0, 2, 2), suffix, names="both", quality=95)
    levels = decide_levels(paths)
    with pytest.raises(InputError, match="not those of the other masks"):
        levels.decode(raw[0], read_picture(raw[0]))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_level_of_one_mask_alone_is_refused_where_it_is_read(tmp_path, suffix):
    """Masks that were not among those looked at may hold more."""
    paths = write_masks(tmp_path, levels_of(0, 80, 200), suffix)
    levels = decide_levels(paths[:3])
    assert levels.meaning == ((0, 0), (80, 1))
    for path in paths[3:]:
        with pytest.raises(InputError, match=rf"{path.name}.*other masks: 0, 80"):
            levels.decode(path, read_picture(path))


@pytest.mark.parametrize("liver_and_tumor", [(100, 200), (200, 100), (60, 50)])
def test_specks_of_tumour_are_a_level(tmp_path, liver_and_tumor):
    labels = slices()["liver"]
    labels[50:52, 40:42] = 2
    paths = write_masks(tmp_path, levels_of(0, *liver_and_tumor), names="liver more_liver")
    Image.fromarray(levels_of(0, *liver_and_tumor)(labels)).save(tmp_path / "speck.png")
    levels = decide_levels([*paths, tmp_path / "speck.png"])
    np.testing.assert_array_equal(levels.decode(PATH, read_picture(tmp_path / "speck.png")), labels)


def test_a_hole_of_a_third_grey_in_a_smeared_binary_set_is_refused(tmp_path):
    """Tumours of 100 within a liver of 200 may all be too small to be a plateau of the set."""
    labels = slices()["liver"] - ellipse((46, 50), (5, 5)) * np.uint8(3)  # wraps around to 254
    grey = np.where(labels == 254, 100, labels * 200).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "hole.jpg", quality=76)
    with pytest.raises(InputError, match="third"):
        MaskLevels(((0, 0), (200, 1)), smeared=True).decode(PATH, read_picture(tmp_path / "hole.jpg"))


@pytest.mark.parametrize("levels", [(0, 127, 255), (0, 100, 200), (0, 60, 120)])
def test_small_tumours_alone_are_a_level_of_a_smeared_set_too(tmp_path, levels):
    liver = slices()["liver"]
    both = liver + ellipse((50, 52), (2, 2))
    for name, labels in (("liver", liver), ("both", both)):
        Image.fromarray(levels_of(*levels)(labels)).save(tmp_path / f"{name}.jpg", quality=90)
    decided = decide_levels([tmp_path / "liver.jpg", tmp_path / "both.jpg"])
    decoded = decided.decode(PATH, read_picture(tmp_path / "both.jpg"))
    assert dice(decoded == 2, both == 2) > 0.8
    assert not (decided.decode(PATH, read_picture(tmp_path / "liver.jpg")) == 2).any()


# --- files of pictures


def write_noise(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"]
)
def test_unreadable_picture_is_named(tmp_path, suffix, damage):
    path = write_noise(tmp_path / f"volume-0_slice_0{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=path.name):
        read_picture(path)


def test_a_link_to_nothing_is_called_so(tmp_path):
    (tmp_path / "a.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match=r"The link leads to nothing\. Fetch"):
        read_picture(tmp_path / "a.png")


def test_one_changed_bit_of_a_png_is_told(tmp_path):
    path = write_masks(tmp_path, levels_of(0, 127, 255), names="both")[0]
    whole = path.read_bytes()
    for place in range(60, len(whole) - 20, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"both\.png"):
            read_picture(path)


def png_that_claims(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize("side", [5000, 12000, 20000, 2**31 - 1])
def test_a_picture_that_claims_too_much_is_refused(tmp_path, side):
    (tmp_path / "giant.png").write_bytes(png_that_claims(side))
    with pytest.raises(InputError, match="4096 x 4096"):
        read_picture(tmp_path / "giant.png")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "EPS"])
def test_other_formats_are_refused(tmp_path, kind):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "other.png", kind)
    with pytest.raises(InputError, match="as PNG or JPEG"):
        read_picture(tmp_path / "other.png")


def test_animations_and_sixteen_bits_are_refused(tmp_path):
    frames = [Image.fromarray(np.full((9, 9), level, np.uint8)) for level in (0, 90)]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 pictures"):
        read_picture(tmp_path / "moves.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8-bit"):
        read_picture(tmp_path / "deep.png")
    Image.fromarray(np.array([[0, 1000, 1100]], np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="too close together"):
        read_picture(tmp_path / "deep.png", sixteen_bit=True)
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), 2, np.uint16))
    with pytest.raises(InputError, match="16 bits"):  # Pillow would drop labels 1 and 2 with the lower byte
        read_picture(tmp_path / "deep.png", sixteen_bit=True)


def test_colour_of_equal_channels_is_grey_and_sixteen_bits_become_eight(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "colour.png").grey, grey)
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png", sixteen_bit=True).grey.tolist() == [[0, 100, 255]]
