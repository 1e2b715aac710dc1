"""Callbacks for any ``lightning.Trainer``."""
