"""One study a module: its figures, and the sentences that its numbers allow."""
