"""From a raw data set to a prepared folder: PNGs, COCO files, leak-free splits and folds."""
