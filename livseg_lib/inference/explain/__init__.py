"""Why there? Maps of what a network's answer hangs on, how sure it is, and whether such maps can be trusted.

None of them proves why a network answers as it does: they are pictures of its arithmetic (see `sanity`).
"""
