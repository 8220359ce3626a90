"""Model -> labels on the scan's own grid, and what they are worth on test patients."""
