"""Model -> labels on the scan's own grid, and what they are worth on test patients."""

import livseg_lib.quiet_tensorflow  # noqa: F401 (before Keras imports it)
