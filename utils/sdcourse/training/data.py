"""Render portraits into one memory-mapped array, several processes at once, resumable after a kill.

A folder holds images.npy (uint8 [N, 128, 128, 3]), codes.npy (uint8 [N, 8]), eyes.npy (float32 [N, 2, 2],
xy pixels) and meta.json. Plans are never stored: plan i is plan_portrait(first_seed + i).
"""

import hashlib
import json
import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sdlab import SdlabError

from ..portraits import draw_portrait, plan_portrait
from ..portraits.worlds import check_world

SIZE = 128
CHUNK = 200
VALIDATION_SEED = 10_000_000
JUDGE_VALIDATION_SEED = 30_000_000


@dataclass
class PortraitData:
    """A folder of rendered portraits: images, codes and eyes (memory-mapped), and the plans behind them."""

    folder: Path
    meta: dict
    images: np.ndarray
    codes: np.ndarray
    eyes: np.ndarray
    _plans: dict = field(default_factory=dict, repr=False)

    def __len__(self):
        return len(self.images)

    @property
    def world(self):
        """Return which world the portraits belong to (see `sdcourse.portraits.worlds`)."""
        return self.meta["world"]

    def plan(self, index):
        """Return the plan of one picture, made from its seed when it is first asked for."""
        index = int(index)
        if index not in self._plans:
            seed = self.meta["first_seed"] + index
            self._plans[index] = plan_portrait(seed, split=self.meta["split"], world=self.world)
        return self._plans[index]


def load_data(folder):
    """Open a folder of portraits; SdlabError where it is missing, unfinished or out of date."""
    folder = Path(folder)
    if not (folder / "meta.json").exists():
        raise SdlabError(
            f"There are no portraits in {folder}; make them with: sdlab train data --out {folder}"
        )
    meta = _read_meta(folder)
    missing = meta["n"] - CHUNK * sum(_done(folder, meta["n"]))
    if missing > 0:
        raise SdlabError(
            f"About {missing} of {meta['n']} portraits in {folder} are not drawn yet; "
            "run the same 'sdlab train data' again."
        )
    if meta["plans"] != plan_fingerprint(meta["world"]):
        raise SdlabError(
            f"The portraits in {folder} are of another version of sdcourse.portraits; draw them with --fresh."
        )
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("images", "codes", "eyes")}
    return PortraitData(folder=folder, meta=meta, **arrays)


def make_data(folder, *, n=12_000, first_seed=0, split="train", world=None, workers=1, fresh=False):
    """Draw the portraits of seeds first_seed .. first_seed + n - 1; goes on where a kill stopped it."""
    folder, world = Path(folder), check_world(world)
    meta = {
        "n": n,
        "first_seed": first_seed,
        "split": split,
        "world": world,
        "plans": plan_fingerprint(world),
        "pictures": picture_fingerprint(world),
    }
    if fresh or not (folder / "meta.json").exists():
        _create(folder, meta)
    elif (found := _read_meta(folder)) != meta:
        raise SdlabError(f"{folder} holds other portraits ({found}); choose another --out or pass --fresh.")
    done = _done(folder, n)
    jobs = [(folder, meta, chunk) for chunk in range(len(done)) if not done[chunk]]
    for chunk in tqdm(_draw_chunks(jobs, workers), total=len(jobs), disable=None, desc="portraits"):
        done[chunk] = True
        done.flush()
    return load_data(folder)


def _draw_chunks(jobs, workers):
    if workers < 2 or len(jobs) < 2:
        yield from map(_draw_chunk, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_draw_chunk, jobs)


def world_of(folder):
    """Return which world a folder of portraits holds; the first where there is no such folder (any more)."""
    folder = Path(folder)
    return _read_meta(folder)["world"] if (folder / "meta.json").exists() else "first"


def _read_meta(folder):
    """Return the meta.json of a folder; one that names no world holds portraits of the first."""
    return {"world": "first"} | json.loads((folder / "meta.json").read_text())


def draw_fresh(n, first_seed, *, split="train", world=None):
    """Draw n portraits in this process: (images uint8 [n, 128, 128, 3], plans)."""
    plans = [plan_portrait(first_seed + index, split=split, world=world) for index in range(n)]
    return np.stack([draw_portrait(plan, size=SIZE).image for plan in plans]), plans


def codes_of(plans):
    """Return the attribute codes of plans, uint8 [N, 8]."""
    return np.stack([plan.attributes.codes() for plan in plans])


def plan_fingerprint(world=None):
    """Return a hash that changes when seeds no longer lead to the same plans."""
    digest = hashlib.sha256()
    for seed in range(64):
        plan = plan_portrait(seed, world=world)
        digest.update(bytes(plan.attributes.codes()) + np.rint(plan.eye_centres).astype(np.int32).tobytes())
    return digest.hexdigest()[:16]


def picture_fingerprint(world=None):
    """Return a hash that changes when the same plans are drawn differently."""
    return hashlib.sha256(draw_fresh(8, 0, world=world)[0].tobytes()).hexdigest()[:16]


def _create(folder, meta):
    folder.mkdir(parents=True, exist_ok=True)
    count = meta["n"]
    shapes = {
        "images": ((count, SIZE, SIZE, 3), np.uint8),
        "codes": ((count, 8), np.uint8),
        "eyes": ((count, 2, 2), np.float32),
    }
    shapes["done"] = ((-(-count // CHUNK),), bool)
    (folder / "meta.json").unlink(missing_ok=True)
    for name, (shape, dtype) in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape).flush()
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _done(folder, n):
    done = np.load(folder / "done.npy", mmap_mode="r+")
    if len(done) != -(-n // CHUNK):
        raise SdlabError(f"{folder}/done.npy does not belong to {n} portraits; make them again with --fresh.")
    return done


def _draw_chunk(job):
    folder, meta, chunk = job
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("images", "codes", "eyes")}
    start = chunk * CHUNK
    count = min(CHUNK, meta["n"] - start)
    images, plans = draw_fresh(count, meta["first_seed"] + start, split=meta["split"], world=meta["world"])
    arrays["images"][start : start + count] = images
    arrays["codes"][start : start + count] = codes_of(plans)
    arrays["eyes"][start : start + count] = np.stack([plan.eye_centres for plan in plans])
    for array in arrays.values():
        array.flush()
    return chunk
