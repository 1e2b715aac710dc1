"""The store: artifacts in folders named by what they mean, published whole or not at all.

``<store>/<stage>/<key>/`` is finished and never changes; its ``manifest.json`` says what made it, of what,
and the checksums of its files and of itself. ``<key>.partial/`` is in the making and is continued by the next
run that needs it; ``<key>.lock`` is held by the run that makes it. ``.runs/`` knows the runs that used it.
``python -m cf_lightning.store`` shows, verifies, cleans and moves all of it.
"""

from cf_lightning.store.artifacts import Store, clear
from cf_lightning.store.checksums import BLOCK, checksums
from cf_lightning.store.damage import verified
from cf_lightning.store.manifest import MANIFEST
from cf_lightning.store.refusals import explained

__all__ = ["BLOCK", "MANIFEST", "Store", "checksums", "clear", "explained", "verified"]
