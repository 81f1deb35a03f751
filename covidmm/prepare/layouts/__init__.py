"""How the label files of each raw data set are read: one module per layout."""
