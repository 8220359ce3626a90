"""The words of the report page: what columns, data sets and sources are called, and where figures go."""

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
    "iou": "IoU",
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
    "system_c": "System C",
    "train_seconds": "Training time",
    "voe": "VOE",
}

UNITS = {"mm": "mm", "mm2": "mm²", "ml": "ml", "hu": "HU", "mb": "MB"}
"""Last word of a column name that is a unit."""

STUDIES = {
    "comparison": (
        "Side by side",
        "The same patients and slices for every network. A difference counts as shown only where its "
        "corrected p is small and its interval leaves zero out.",
        {
            "comparison": "Systems, best first",
            "paired_differences": "Paired differences over test patients",
            "d_metrics": "As system D's table, its published figures beside ours",
        },
    ),
    "split_audit": (
        "What the split hides",
        "One network, one budget, the same slices scored; only how slices are dealt differs. Rows by slice "
        "repeat a published protocol and are no measure of quality.",
        {
            "split_inflation": "Inflation in points",
            "split_audit": "Scores under each protocol",
            "split_distance": "Scores by the distance to the nearest training slice of the same patient",
        },
    ),
    "cascades": (
        "Whole volumes and cascades",
        "Systems that see more than one slice, or look twice: first where the liver is, then what is in it. "
        "They are scored on the same test patients as all others.",
        {
            "cascades": "Seconds a volume and the error of the tumour burden, published figures beside",
            "cascade_differences": "Each against the best single network, on the same patients",
            "excluded_cases": "Cases without any annotation, left out of what blocks are learnt from",
        },
    ),
    "candidate": (
        "Candidates filtered",
        "System H's random forest: the same cascade without it and with it, on the test patients.",
        {
            "candidate_filter": "A patient's false alarms, tumours found and Dice, with paired intervals",
            "candidate_importance": "What each feature is worth on the validation patients' candidates",
        },
    ),
    "superpixels": (
        "Superpixels told apart",
        "System J: what a liver falls into at several scales, which of it is tumour, and outlines drawn to "
        "the edges.",
        {"superpixel_validation": "Validation patients: without fault, as found, and after the contour"},
    ),
    "finishing": (
        "Finishing touches",
        "Each is measured on validation patients and kept only where it helps.",
        {
            "finishing": "Each finish on the validation patients, and why it was kept or not",
            "finishing_test": "Those kept, on the test patients",
            "test_time_augmentation": "Asking about variants of a picture, on the validation patients",
        },
    ),
    "agreement": (
        "Do the models agree?",
        "A vote of all, and whether disagreement is a warning of errors.",
        {
            "agreement": "What agreement tells of errors",
            "agreement_differences": "The vote against each of its members",
            "agreement_patients": "A row a test patient",
        },
    ),
    "detection": (
        "Tumour or no tumour, picture by picture",
        "System A's question, on the test patients.",
        {"detection": "Verdicts a picture"},
    ),
    "sorting": (
        "Slices sorted",
        "System F: what each slice shows, so that a reader opens the relevant ones first.",
        {
            "slice_sorting": "Scores a slice",
            "slice_sorting_confusion": "Confusion matrix",
            "slice_gate_summary": "Segmenting only slices that may show liver",
        },
    ),
    "tuning": (
        "Cross-validated and tuned",
        "Folds of training and validation patients; the test patients have no part in it.",
        {
            "cross_validation": "Folds",
            "tuning_trials": "Trials of the study",
            "tuning_comparison": "The best trial against the start",
        },
    ),
    "class_imbalance": (
        "Losses against missed tumours",
        "The same network, slices and budget; only the loss differs (system B's proposal).",
        {
            "class_imbalance": "Losses",
            "imbalance_differences": "Paired differences from the first loss",
        },
    ),
    "applied": (
        "On a scan from elsewhere",
        "Function, not accuracy: what these models have learnt from is other data than this scan.",
        {"applied": "Volumes and HU inside the outlines"},
    ),
}
"""Chapter -> (title, a sentence, tables with their captions); its figures begin with the chapter's name."""

FIGURES = {
    **{chapter: (chapter,) for chapter in STUDIES},
    "cascades": ("cascade_",),
    "superpixels": ("superpixel",),
    "tuning": ("tuning", "cross_validation"),
    "class_imbalance": ("imbalance",),
    "overlays": ("best_median_worst", "overlay"),
    "curves": ("training", "roc", "curves"),
    "patients": ("dice", "patient", "volume", "burden"),
    "data": ("contact_sheet", "preprocessing", "windows", "class_balance", "split", "cases", "phantom"),
}
"""Section -> how the names of its figures begin, in the order they are shown. Others close the page."""


def column_title(column: str) -> str:
    """Heading for a column: "reference_volume_ml" reads "Reference volume (ml)"."""
    if column in COLUMNS:
        return COLUMNS[column]
    words = column.removeprefix("n_").replace("tumor", "tumour").split("_")
    unit = f" ({UNITS[words.pop()]})" if len(words) > 1 and words[-1] in UNITS else ""
    text = " ".join(words)
    return text[:1].upper() + text[1:] + unit


def figure_section(name: str) -> tuple[str, tuple[int, int]]:
    """(section, its place on the page and the figure's in it) of the figure `name`."""
    for number, (section, beginnings) in enumerate(FIGURES.items()):
        for place, beginning in enumerate(beginnings):
            if name.startswith(beginning):
                return section, (number, place)
    return "more", (len(FIGURES), 0)
