"""Sources of images, their index, and how they reach a network."""
