"""File formats of findings: predictions, Kaggle's submission, DICOM Structured Reports."""
