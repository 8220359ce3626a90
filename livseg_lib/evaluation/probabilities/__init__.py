"""What probabilities are worth before they become labels."""
