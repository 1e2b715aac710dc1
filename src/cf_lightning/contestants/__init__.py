"""Whose representations are compared, beside each other in one table."""
