"""The web application: its API, its page and the DICOM node."""
