"""What is done to predictions after the networks: finishes, augmentation, votes."""
