"""Who learns from whom: the leak audit, cross-validation, the search for hyper-parameters."""
