"""The words of the report page: what columns, data sets and sources are called."""

from __future__ import annotations

DATASETS = {
    "phantom": "Phantom",
    "lits": "LiTS",
    "msd": "MSD Task03 Liver",
    "kaggle": "Kaggle slices",
    "ircadb": "3D-IRCADb-01",
}

TARGETS = {"liver": "Liver", "tumor": "Liver tumours", "both": "Liver and liver tumours"}

SOURCES = {
    "A": "Detection for everyone, a U-Net and a graphical interface",
    "B": "The two-model Keras study, U-Net against ResNet-50",
    "C": "The LiTS U-Net report",
    "D": "The three-architecture study: UNet++, MAnet, DeepLabV3+",
    "E": "The 64-slice volumetric U-Net",
    "F": "Slice sorting (Kaur et al. 2021)",
    "G": "2.5D residual U-Net (Han 2017)",
    "H": "Cascade with candidate filter (Chlebus et al. 2017)",
    "I": "Hierarchical CDNN (Yuan 2017)",
    "J": "Multi-scale candidates and fractal residual network (Bai et al. 2019)",
    "K": "The LiTS benchmark (Bilic et al. 2022)",
}

COLUMNS = {
    "assd_mm": "ASSD (mm)",
    "dice": "Dice",
    "dice_global": "Global Dice",
    "dice_per_case": "Dice per patient",
    "ece": "ECE",
    "ece_high": "ECE high",
    "ece_low": "ECE low",
    "ece_per_patient": "ECE per patient",
    "froc_score": "FROC score",
    "froc_score_high": "FROC score high",
    "froc_score_low": "FROC score low",
    "hd95_mm": "HD95 (mm)",
    "iou": "IoU",
    "lesion_dice": "Lesion-wise Dice",
    "msd_mm": "Hausdorff (mm)",
    "n_test_patients": "Test patients",
    "n_train_patients": "Training patients",
    "parameters": "Parameters",
    "presence_accuracy": "Presence accuracy",
    "published_value": "Published",
    "roc_auc": "ROC-AUC",
    "rmsd_mm": "RMSD (mm)",
    "rvd": "RVD",
    "split_by": "Split by",
    "surface_dice": "Surface Dice",
    "system_c": "System C",
    "train_seconds": "Training time",
    "voe": "VOE",
}

UNITS = {"mm": "mm", "mm2": "mm²", "ml": "ml", "hu": "HU", "mb": "MB"}
"""Last word of a column name that is a unit."""


def column_title(column: str) -> str:
    """Heading for a column: "reference_volume_ml" reads "Reference volume (ml)"."""
    if column in COLUMNS:
        return COLUMNS[column]
    words = column.removeprefix("n_").replace("tumor", "tumour").split("_")
    unit = f" ({UNITS[words.pop()]})" if len(words) > 1 and words[-1] in UNITS else ""
    text = " ".join(words)
    return text[:1].upper() + text[1:] + unit


def p_words(p_holm: float) -> str:
    """ "p 0.012 after correction", or that there is none."""
    return f"p {p_holm:.2g} after correction" if p_holm == p_holm else "p undefined"
