"""Networks for use elsewhere: ``python -m cf_lightning.export``, ``cf_lightning.load_trunk``."""
