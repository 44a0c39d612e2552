"""Data sets: readers, the prepared store, sampling, augmentation and label words."""
