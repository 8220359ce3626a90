"""The cascades and how their learnt parts are trained (systems G to J)."""
