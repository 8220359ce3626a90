"""Why systems err, and losses against it (system B)."""
