"""Reports: HTML pages of runs and sweeps, each one file that opens from disk without a network."""
