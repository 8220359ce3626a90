"""Model -> labels on the scan's own grid, and what they are worth on test patients."""

from livseg_lib.processes import import_tensorflow_quietly

import_tensorflow_quietly()
