"""The steps of the method."""
