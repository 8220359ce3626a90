"""A trained system used on new patients: what the command line, the app and HTTP share.

`inputs` finds cases, `predictor` loads a system, `patient` treats a case, `results` writes it, `batch`
treats many.
"""
