"""Pictures -> batches: who is in which split, slices, blocks, augmentation."""
