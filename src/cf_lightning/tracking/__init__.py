"""Loggers: where the numbers of a stage go while it runs."""
