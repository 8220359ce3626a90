"""How the process of an app gets the toy; by itself it imports next to nothing, as it is started often."""

import time


def load_toy(model):
    """Instead of `load_predictor`; "slow" loads for ever."""
    if model.name == "slow":
        time.sleep(600)
    from application.toy_system import toy_predictor

    return toy_predictor()
