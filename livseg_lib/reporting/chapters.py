"""The chapters of the report page that belong to one study each: what they are called and what they show."""

from __future__ import annotations

from livseg_lib.evaluation.statistics import RULE

STUDIES = {
    "comparison": (
        "Side by side",
        f"The same patients and slices for every network. {RULE}",
        {
            "comparison": "Systems, best first",
            "paired_differences": "Paired differences over test patients",
            "d_metrics": "As system D's table, its published figures beside ours",
        },
    ),
    "checked_scores": (
        "What may be believed of these scores?",
        "Whether probabilities are what they say, what finding a tumour costs in false positives, and for "
        "whom it is worse. On the test patients; nothing is chosen by it.",
        {
            "calibration": "Calibration, over whole pictures and near the structure",
            "thresholds": "Where thresholds chosen on validation patients land",
            "froc": "Tumours found against false positives a patient",
            "group_differences": "Differences between groups of patients, mean of all systems",
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
    "errors": (
        "Where it goes wrong, and why",
        "Every missed and every invented tumour of the test patients as an object, with what may explain it. "
        "A tumour is missed where no voxel of it is predicted, invented where no voxel of it is true.",
        {
            "error_classes": "System B's classes: false positives on bright textures, missed low contrast",
            "error_contrast": "Are low-contrast tumours missed more often than others?",
            "error_remedies": "What class weights, focal loss and candidate filter change in these two",
            "error_fusions": "Tumours that a prediction fuses or splits",
            "error_edges": "Volume found of diffuse and of sharp tumours (phantom)",
            "shared_errors": "True tumours by how many miss them, and places that half or more take for one",
        },
    ),
    "explain": (
        "Why there?",
        "Maps of what networks hang on and where they are unsure, and whether such maps can be trusted. One "
        "that passes its checks still does not prove why a network answers as it does.",
        {
            "explain_sanity": "How alike maps stay while layers are made random, from the output down",
            "explain_pointing": "Share of each map in the truth, beside maps that know nothing of it",
            "explain_uncertainty": "Uncertainty as a warning of wrong pixels near an outline, by patient",
        },
    ),
    "measures": (
        "What a clinic asks for",
        "Sizes and places of tumours by the truth and by the best systems, and how far the two agree (Bland "
        "and Altman: bias, limits of agreement, 95 % intervals; Lin's concordance).",
        {
            "bland_altman": "System minus truth over the test patients",
            "measures_patients": "Every patient, by the truth and by systems",
            "measures_tumors": "Every tumour, by the truth and by systems",
        },
    ),
    "cohort": (
        "The cohort",
        "How measures are spread over patients: all by the truth, the test patients by systems too.",
        {"cohort": "Means with 95 % intervals, quartiles, and how many patients have a tumour (their share)"},
    ),
    "follow_up": (
        "One patient, two scans",
        "A phantom patient scanned again after planted growth. The categories are RECIST 1.1's arithmetic on "
        "liver tumours alone, no assessment of a patient.",
        {
            "follow_up_response": "All tumours together",
            "follow_up": "Each tumour",
        },
    ),
    "applied": (
        "On a scan from elsewhere",
        "Function, not accuracy: what these models have learnt from is other data than this scan.",
        {"applied": "Volumes and HU inside the outlines"},
    ),
}
"""Chapter -> (title, a sentence, tables with their captions); its figures begin with the chapter's name."""
