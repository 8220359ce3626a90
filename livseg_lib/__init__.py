"""livseg: liver and liver-tumour segmentation in CT. Research only, not for clinical use."""

__version__ = "0.1.0"
WARNING = "Research only. Not for clinical use."
