"""Protocols that measure frozen features, one in a file."""
