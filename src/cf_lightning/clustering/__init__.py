"""k-means: the contract, its engines, and what they cluster."""
