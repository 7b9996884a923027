"""Load a genuine diffusers ``StableDiffusionPipeline``: the pocket model, SD 1.5, a hub id or a folder.

Device and dtype are decided here, once. The pocket model lies inside the package, so nothing is downloaded.
"""

import json
import os
import re
from pathlib import Path

import torch

from .compat import quiet
from .errors import SdlabError
from .weights import MODELS_FOLDER, count_parameters, verify_weights, weight_files

DEFAULT_MODEL = os.environ.get("SDLAB_MODEL", "pocket")
MODEL_FOLDERS = {"pocket": MODELS_FOLDER / "pocket"}
HUB_IDS = {"sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
HUB_PARAMETERS = {"sd15": 1_370_000_000}  # with the safety checker: known before 2.7 GB are downloaded
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_pipeline(model: str | Path = DEFAULT_MODEL, *, device=None, dtype=None):
    """Return a ``StableDiffusionPipeline`` on its device, ready to draw.

    model: ``"pocket"`` (the default: offline, CPU or GPU), ``"sd15"``, a hub id ``"owner/name"``, or a folder.
        The environment variable SDLAB_MODEL, read when sdlab is imported, sets another default.
    device: ``"cuda"``, ``"mps"`` or ``"cpu"``; by default SDLAB_DEVICE if that is set, else the first that is there.
    dtype: by default float16 for full-size models on CUDA, else float32.

    Hub models come from HF_ENDPOINT if that is set; with HF_HUB_OFFLINE=1 only from the local cache.
    Raises SdlabError: unknown model, no network, missing or damaged weights, no CUDA, too little memory.
    """
    device = choose_device(device)
    dtype = choose_dtype(dtype, device, full_size=model != "pocket")
    if model in HUB_PARAMETERS:
        check_memory(HUB_PARAMETERS[model], device=device, dtype=dtype)
    folder = find_folder(model, dtype)
    variant = "fp16" if any(folder.glob("*/*.fp16.safetensors")) else None
    check_folder(folder, variant, packaged=model in MODEL_FOLDERS)
    parameters = sum(count_parameters(file) for file in weight_files(folder, variant))
    check_memory(parameters, device=device, dtype=dtype)
    pipe = _read(folder, variant, dtype).to(device)
    pipe.set_progress_bar_config(disable=model in MODEL_FOLDERS, leave=False)
    return pipe


def choose_device(device=None) -> torch.device:
    """Return the device asked for, here or by SDLAB_DEVICE, or the best there is; SdlabError if it is not there."""
    device = device or os.environ.get("SDLAB_DEVICE")
    if not device:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError):
        raise SdlabError(f"device={device!r} is not a device: use 'cuda', 'mps', 'cpu', or leave it out.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SdlabError(
            f"device='{device}' was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices here: leave device out, or install torch with CUDA and a driver."
        )
    if device.type == "mps" and not _has_mps():
        raise SdlabError("device='mps' was asked for, but this is no Mac with an Apple GPU: leave device out.")
    return device


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def choose_dtype(dtype=None, device: torch.device | str = "cpu", *, full_size: bool = True) -> torch.dtype:
    """Return ``dtype`` (or the dtype of that name); by default float16 for full-size models on CUDA, else float32."""
    if dtype is None:
        return torch.float16 if full_size and torch.device(device).type == "cuda" else torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise SdlabError(f"dtype={dtype!r} is not a floating point type: use 'float32', 'float16' or 'bfloat16'.")
    return found


def check_memory(parameters: int, *, device: torch.device | str, dtype: torch.dtype) -> None:
    """Raise SdlabError if ``parameters`` numbers of ``dtype``, and a quarter more to work in, do not fit."""
    needed = int(parameters * dtype.itemsize * 1.25) + 100_000_000
    free = free_memory(device)
    if needed > free:
        raise SdlabError(
            f"The model needs about {needed / 1e9:.1f} GB on '{device}', but {free / 1e9:.1f} GB are free: "
            "close other programs or kernels, use a smaller model such as 'pocket', or dtype='float16'."
        )


def free_memory(device: torch.device | str) -> int:
    """Return the bytes that are free on a CUDA device, or in the computer's memory for any other device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def find_folder(model: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Return the folder that holds ``model``; a hub model is downloaded unless it is in the cache already."""
    if model in MODEL_FOLDERS:
        return MODEL_FOLDERS[model]
    if Path(model).is_dir():
        return Path(model)
    hub_id = HUB_IDS.get(model, str(model))
    if _HUB_ID.fullmatch(hub_id):
        # SD 1.5's repository has its half precision files beside the others: half the download
        return _download(hub_id, "fp16" if model in HUB_IDS or dtype == torch.float16 else None)
    known = ", ".join(repr(name) for name in [*MODEL_FOLDERS, *HUB_IDS])
    raise SdlabError(
        f"There is no model {str(model)!r}: use {known}, a hub id such as 'owner/name', or a folder that exists."
    )


def check_folder(folder: Path, variant: str | None = None, *, packaged: bool = False) -> None:
    """Raise SdlabError unless ``folder`` holds a StableDiffusionPipeline with whole safetensors weights."""
    if not (folder / "model_index.json").is_file():
        advice = "get the course files again" if packaged else "give the folder that has one"
        raise SdlabError(f"The weights are missing: {folder} has no model_index.json; {advice}.")
    class_name = json.loads((folder / "model_index.json").read_text()).get("_class_name")
    if class_name != "StableDiffusionPipeline":
        raise SdlabError(f"{folder} holds a {class_name}; the course works on a StableDiffusionPipeline (SD 1.x).")
    if packaged or (folder / "weights.json").is_file():
        verify_weights(folder)
    present = {file.parent.name for file in weight_files(folder, variant)}
    missing = [name for name in ("text_encoder", "unet", "vae") if name not in present]
    if missing:
        raise SdlabError(f"The weights are missing: {folder} has no safetensors file for {', '.join(missing)}.")


def _download(hub_id: str, variant: str | None) -> Path:
    """Download the files of a hub model (or find them in the cache) and return their folder."""
    try:
        with quiet(progress=True):
            from diffusers import StableDiffusionPipeline

            return Path(StableDiffusionPipeline.download(hub_id, variant=variant, use_safetensors=True))
    except Exception as error:
        if variant and isinstance(error, ValueError):
            return _download(hub_id, None)  # a repository without half precision files
        raise _download_error(hub_id, error) from error


def _download_error(hub_id: str, error: BaseException) -> SdlabError:
    """Turn what the hub client raised into one sentence."""
    names, cause = set(), error
    while cause is not None:
        names.update(kind.__name__ for kind in type(cause).__mro__)
        cause = cause.__cause__ or cause.__context__
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if "OfflineModeIsEnabled" in names:
        return SdlabError(f"{hub_id} is not in the local cache and HF_HUB_OFFLINE is set: unset it, or use 'pocket'.")
    if "GatedRepoError" in names:
        return SdlabError(f"{hub_id} is gated: accept its licence on {endpoint}/{hub_id} and run 'hf auth login'.")
    if "RepositoryNotFoundError" in names:
        return SdlabError(f"{endpoint} knows no model {hub_id!r}: look for a typing error, or use 'pocket'.")
    if names & {
        "ConnectionError",
        "ConnectError",
        "ConnectTimeout",
        "LocalEntryNotFoundError",
        "TransportError",
    }:
        return SdlabError(
            f"{hub_id} could not be downloaded: no network, or {endpoint} cannot be reached; "
            "connect, set HF_ENDPOINT to a mirror, or use 'pocket', which needs no network."
        )
    return SdlabError(f"{hub_id} could not be downloaded from {endpoint}: {_first_line(error)}")


def _read(folder: Path, variant: str | None, dtype: torch.dtype):
    """Load the pipeline of a folder into the computer's memory, without progress bars."""
    import diffusers

    version = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    arguments = {"dtype" if version >= (0, 40) else "torch_dtype": dtype, "variant": variant}
    try:
        with quiet():
            return diffusers.StableDiffusionPipeline.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True, **arguments
            )
    except Exception as error:
        raise SdlabError(f"The model in {folder} could not be loaded: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
