"""One record a system: whose it is, what it is, what was published of it, which notebooks train it.

Catalogue, model cards, tables, docs/networks.md, `livseg train` and `livseg networks` read these records. A
new network is its file in `livseg_lib/models/` and its record here. No TensorFlow is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from livseg_lib.errors import InputError

if TYPE_CHECKING:  # `livseg --help` must not wait for pandas
    import pandas as pd

DEFAULT_MODEL = "liver-ct"
"""On board (`livseg_lib/pretrained`): what `livseg predict` takes where no model is named."""
SLICES, BLOCKS = "network of slices", "network of blocks"
LIVER_MARGIN_MM = 15.0  # around the liver found so far: more than a coarse outline is wrong by


@dataclass(frozen=True)
class StepPlan:
    """A step of a cascade by name: what a new cascade is written in."""

    name: str  # of the stage in figures
    part: str  # one of `livseg_lib.inference.cascade.PARTS`
    using: str  # the model's folder, the function's name, or the number that the part works with
    region: str = "scan"
    margin_mm: float = 0.0


COARSE_LIVER = (
    StepPlan("coarse liver", "network", "coarse_liver"),
    StepPlan("its largest piece", "finish", "keep_largest_liver"),
)
LARGEST_LIVER = StepPlan("largest liver", "finish", "keep_largest_liver")
TUMORS_OF_H = (
    StepPlan("tumours", "network", "unet_lesions", "box", LIVER_MARGIN_MM),
    StepPlan("forest", "forest", "candidate_forest", "box", LIVER_MARGIN_MM),
)


class Source(NamedTuple):
    """Where a system comes from, and which published figure stands beside ours in systems.csv."""

    letter: str = ""  # a to K
    title: str = ""  # what the source calls the system: `system` of `published_rows`
    metric: str = ""  # of that figure; empty where there is none


UNNAMED = Source()


@dataclass(frozen=True)
class SystemRecord:
    """What its name stands for in tables, cards, commands and notebooks."""

    name: str
    kind: str  # SLICES, BLOCKS, "cascade", "classifier", "vote" or "baseline"
    sentence: str  # what it is, for its model card
    source: Source = UNNAMED
    network: str = ""
    """Its function and the file of that name in `livseg_lib/models/`; those with one are the catalogue
    `livseg_lib.models.MODELS`."""
    paper: str = ""  # of the network, in Markdown
    small: dict = field(default_factory=dict)
    """Options of `build_model` with which it learns 128-pixel pictures on a laptop in minutes: ours, not the
    paper's. 2 x 2 pixels are folded into one position, or a ResNet-50 keeps all its layers at a quarter of
    the filters (ImageNet weights fit width 1)."""
    notebooks: tuple[str, ...] = ()  # those that train and score it, in order, after the data are prepared
    steps: tuple[StepPlan, ...] = ()
    """Of a cascade. Its learnt parts lie in `models/<using>/` of the run."""


def _arxiv(number: str) -> str:
    return f"[arXiv:{number}](https://arxiv.org/abs/{number})"


NETWORKS = ("10_train_networks",)  # the notebook of all networks of slices that have none of their own
_FOLDED = {"filters": 16, "levels": 4, "patch": 2}


def _of_slices(
    name: str, sentence: str, paper: str, source: Source = UNNAMED, small: dict = _FOLDED, **more
) -> SystemRecord:
    """A network of slices: in the file of its name, trained with the others, unless `more` says otherwise."""
    more = {"network": name, "notebooks": NETWORKS} | more
    return SystemRecord(name, SLICES, sentence, source, paper=paper, small=small, **more)


_SYSTEMS = (
    _of_slices(
        "unet",
        "U-Net on single slices, in system C's layout.",
        f"Ronneberger et al. 2015, {_arxiv('1505.04597')}, as systems B and C",
        Source("C", "U-Net", "dice"),
        notebooks=("03_train_unet", "05_evaluate"),
    ),
    _of_slices(
        "resnet50_unet",
        "ResNet-50 encoder with an upsampling head on single slices (system B).",
        f"He et al. 2015, {_arxiv('1512.03385')}, as system B",
        Source("B", "ResNet-50", "dice"),
        {"encoder_width": 0.25, "decoder_filters": (96, 48, 32, 16, 16)},
        notebooks=("04_train_resnet50", "05_evaluate"),
    ),
    _of_slices(
        "unet++",
        "UNet++ on single slices: nested, dense skip connections (system D).",
        f"Zhou et al. 2018, {_arxiv('1807.10165')}, as system D",
        Source("D", "UNet++", "iou"),
        network="unetplusplus",
    ),
    _of_slices(
        "manet",
        "MA-Net on single slices: attention by position and across scales (system D).",
        "Fan et al. 2020, [doi:10.1109/ACCESS.2020.3025372]"
        "(https://doi.org/10.1109/ACCESS.2020.3025372), as system D",
        Source("D", "MAnet", "iou"),
    ),
    _of_slices(
        "deeplabv3+",
        "DeepLabV3+ on single slices: atrous convolutions at several rates (system D).",
        f"Chen et al. 2018, {_arxiv('1802.02611')}, as system D",
        Source("D", "DeepLabV3+", "iou"),
        # Atrous rates that a map of 8 x 8 positions has room for.
        {"encoder_width": 0.25, "atrous_rates": (2, 4, 6), "filters": 48},
        network="deeplabv3plus",
    ),
    _of_slices(
        "attention_unet",
        "U-Net whose skip connections are gated by attention (named by system B).",
        f"Oktay et al. 2018, {_arxiv('1804.03999')}, named by system B",
        Source("B", "Attention U-Net"),
    ),
    _of_slices(
        "residual_unet",
        "Residual U-Net by itself, the network of system G's second step.",
        f"Han 2017, {_arxiv('1704.07239')}, system G",
    ),
    _of_slices(
        "cdnn",
        "Convolutions and deconvolutions by themselves, the network of system I's steps.",
        f"Yuan 2017, {_arxiv('1710.04540')}, system I, layers after {_arxiv('1703.05165')}",
        # Half the dropout: in minutes nothing is learnt by heart.
        small={"filters": 12, "levels": 4, "patch": 2, "dropout": 0.25},
    ),
    SystemRecord(
        "unet_mse",
        SLICES,
        "U-Net trained with the mean squared error, for tumours picture by picture (system A).",
        source=Source("A", "U-Net trained with mean squared error", "overall_accuracy"),
        notebooks=("11_detect_tumors",),
    ),
    SystemRecord(
        "slice_sorter",
        "classifier",
        "A small classifier of what a slice shows; it outlines nothing (system F).",
        source=Source("F", "CNN that sorts slices"),
        notebooks=("12_sort_slices",),
    ),
    SystemRecord(
        "unet3d",
        BLOCKS,
        "3D U-Net on blocks of slices around a coarse liver (system E).",
        source=Source("E", "64-slice volumetric U-Net"),
        network="unet3d",
        paper=f"Cicek et al. 2016, {_arxiv('1606.06650')}, as systems E and J",
        small={"filters": 8, "levels": 4, "patch": (1, 2, 2), "flat_levels": 1},
        notebooks=("13_segment_volumes",),
        steps=(
            *COARSE_LIVER,
            StepPlan("blocks of slices", "network", "unet3d_blocks", "slices", LIVER_MARGIN_MM),
            LARGEST_LIVER,
        ),
    ),
    SystemRecord(
        DEFAULT_MODEL,
        "cascade",
        "The model on board: a network of LiTS slices finds the liver, its largest piece is kept.",
        notebooks=("40_make_pretrained",),
        steps=(StepPlan("liver", "network", "liver"), LARGEST_LIVER),
    ),
    SystemRecord(
        "best",
        "cascade",
        "The liver of the model on board; tumours and their forest as of system H, learnt from your scans.",
        notebooks=("03_train_unet", "15_filter_candidates", "42_best_system"),
        steps=(
            StepPlan("liver", "network", "liver"),
            LARGEST_LIVER,
            *TUMORS_OF_H,
        ),
    ),
    SystemRecord(
        "cascade_25d",
        "cascade",
        "A coarse liver, then a residual network that sees neighbouring slices (system G).",
        source=Source("G", "2.5D residual U-Net", "dice_per_case"),
        notebooks=("13_segment_volumes", "14_train_cascades"),
        steps=(
            *COARSE_LIVER,
            StepPlan("fine liver and lesions", "network", "residual_25d", "box", LIVER_MARGIN_MM),
            LARGEST_LIVER,
        ),
    ),
    SystemRecord(
        "cascade_forest",
        "cascade",
        "A cascade whose tumour candidates are judged by a random forest (system H).",
        source=Source("H", "Cascade with candidate filter", "dice_per_case"),
        notebooks=("03_train_unet", "15_filter_candidates"),
        steps=(
            StepPlan("liver", "network", "unet"),
            StepPlan("its largest piece", "finish", "keep_largest_liver"),
            *TUMORS_OF_H,
        ),
    ),
    SystemRecord(
        "cascade_unfiltered", "cascade", "The cascade of system H without its random forest, for comparison."
    ),
    SystemRecord(
        "cascade_cdnn",
        "cascade",
        "A coarse liver, a fine liver, then tumours with the liver as a channel (system I).",
        source=Source("I", "Hierarchical CDNN", "dice_per_case"),
        notebooks=("13_segment_volumes", "14_train_cascades"),
        steps=(
            *COARSE_LIVER,
            StepPlan("fine liver", "network", "cdnn_liver", "box", LIVER_MARGIN_MM),
            LARGEST_LIVER,
            StepPlan("tumours", "network", "cdnn_tumor", "box", LIVER_MARGIN_MM),
        ),
    ),
    SystemRecord(
        "cascade_superpixels",
        "cascade",
        "Superpixels told apart by a fractal network, then an active contour (system J).",
        source=Source("J", "Multi-scale candidates and fractal residual network", "dice_per_case"),
        notebooks=("13_segment_volumes", "16_classify_superpixels"),
        steps=(
            *COARSE_LIVER,
            StepPlan("liver in blocks", "network", "unet3d_blocks", "slices", LIVER_MARGIN_MM),
            LARGEST_LIVER,
            StepPlan("superpixels", "superpixels", "superpixel_classifier", "box", LIVER_MARGIN_MM),
            StepPlan("active contour", "contour", "3", "box", LIVER_MARGIN_MM),
        ),
    ),
    SystemRecord(
        "majority_vote", "vote", "No model of its own: each voxel goes to what most systems of this run say."
    ),
    SystemRecord(
        "threshold",
        "baseline",
        "A baseline without a network: HU cuts chosen on training patients, one for all.",
    ),
    SystemRecord(
        "threshold_relative",
        "baseline",
        "A baseline without a network: tumours cut relative to each liver's HU.",
    ),
)
SYSTEMS: dict[str, SystemRecord] = {system.name: system for system in _SYSTEMS}
CASCADES: dict[str, tuple[StepPlan, ...]] = {
    each.name: each.steps for each in _SYSTEMS if each.steps and each.name not in (DEFAULT_MODEL, "best")
}
"""System -> its steps, of those that a whole run trains."""


def looks_twice(system: str) -> bool:
    """Whether `system` is made of steps and not of one network; one that has no record is a network."""
    return system in SYSTEMS and bool(SYSTEMS[system].steps)


def training_notebooks(system: str) -> list[str]:
    """The notebooks that train and score `system`. Raises InputError for one that none trains."""
    known = sorted(each.name for each in SYSTEMS.values() if each.notebooks)
    if system not in known:
        problem = "is not one that a notebook trains."
        raise InputError(f"system {system}", problem, f"Choose from {', '.join(known)}.")
    return list(SYSTEMS[system].notebooks)


def published_rows() -> pd.DataFrame:
    """The figures that systems A to K were published with, as printed in their sources: `published.csv`.

    Columns system, source (letter), target, metric, value (float), protocol, note. `target` is empty where
    the system outlines neither liver nor tumour; E published no figure. Metrics bear the names of our own
    tables where they mean the same. None was measured here, and their protocols differ from ours.
    """
    import pandas as pd

    with files(__package__).joinpath("published.csv").open(encoding="utf-8") as table:
        return pd.read_csv(table, keep_default_na=False, dtype={"value": float})


def published_beside(name: str, structure: str) -> dict:
    """Columns of systems.csv for system `name` and a structure: source, published_metric, published_value.

    The last two are left out where nothing was published; D's are those of its validation set, where liver
    and tumour count together.
    """
    source = SYSTEMS[name].source if name in SYSTEMS else UNNAMED
    table = published_rows()
    is_source = (table[["source", "system", "metric"]] == tuple(source)).all(axis=1)
    found = table[is_source & table["target"].isin((structure, "both"))]
    if found.empty:
        return {"source": source.letter}
    row = found.iloc[-1]  # D prints training before validation
    metric = f"{source.metric}, {row['protocol']}"
    return {"source": source.letter, "published_metric": metric, "published_value": row["value"]}
