"""The process whose memory ``footprint.py`` watches: clusters a small file, then a large one.

one_fit.py SMALL LARGE K
"""

import sys
from pathlib import Path

import torch
from fits import fit
from problem import of_file

from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.runtime import Runtime


def main(small: str, large: str, k: str) -> None:
    torch.set_num_threads(Runtime(devices=1, accelerator="cpu").num_threads())
    engine = LloydKMeans(iterations=5)
    fit(engine, of_file("small", Path(small), int(k)), seed=0)
    print("warm", flush=True)
    fit(engine, of_file("large", Path(large), int(k)), seed=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
