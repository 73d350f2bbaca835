"""Road maps: the vector map that all sources are converted to, and its readers."""
