"""Load a genuine diffusers ``StableDiffusionPipeline``: the pocket model, SD 1.5, a hub id or a folder.

Device and dtype are decided here, once. The pocket model lies inside the package, so nothing is downloaded.
"""

import os
import re
from pathlib import Path

import torch

from .arguments import short
from .compat import quiet
from .errors import SdlabError
from .weights import MODELS_FOLDER, count_parameters, read_json, tensor_shapes, verify_weights, weight_files

DEFAULT_MODEL = os.environ.get("SDLAB_MODEL", "pocket")
MODEL_FOLDERS = {"pocket": MODELS_FOLDER / "pocket"}
HUB_IDS = {"sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
HUB_PARAMETERS = {"sd15": 1_370_000_000}  # with the safety checker: known before 2.7 GB are downloaded
KINDS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
WEIGHED = ["text_encoder", "unet", "vae"]
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_pipeline(model: str | Path = DEFAULT_MODEL, *, device=None, dtype=None):
    """Return a ``StableDiffusionPipeline``, or an SDXL one, on its device, ready to draw.

    model: ``"pocket"`` (the default: offline, CPU or GPU), ``"sd15"``, a hub id ``"owner/name"``, a folder, or a
        single ``.safetensors`` checkpoint (its configs come from the hub once).
        The environment variable SDLAB_MODEL, read when sdlab is imported, sets another default.
    device: ``"cuda"``, ``"mps"`` or ``"cpu"``; by default SDLAB_DEVICE if that is set, else the first that is there.
    dtype: by default float16 for full-size models on CUDA, else float32.

    Hub models come from HF_ENDPOINT if that is set; with HF_HUB_OFFLINE=1 only from the local cache.
    Raises SdlabError: unknown model, no network, missing or damaged weights, no CUDA, too little memory.
    """
    if not isinstance(model, (str, Path)):
        raise SdlabError(f"model={short(model)} is no model: give a name, a hub id, a folder or a .safetensors file.")
    device = choose_device(device)
    dtype = choose_dtype(dtype, device, full_size=model != "pocket")
    if model in HUB_PARAMETERS:
        check_memory(HUB_PARAMETERS[model], device=device, dtype=dtype)
    place = find_folder(model, dtype, device=device)
    variant, kind = None, None
    if place.is_dir():
        kind, variant = check_folder(place, packaged=model in MODEL_FOLDERS), choose_variant(place, dtype)
    files = weight_files(place, variant) if place.is_dir() else [place]
    check_memory(sum(count_parameters(file) for file in files), device=device, dtype=dtype)
    pipe = _read(place, kind or _kind_of_file(place), variant, dtype).to(device)
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


def find_folder(model: str | Path, dtype: torch.dtype = torch.float32, *, device="cpu") -> Path:
    """Return the folder or single file that holds ``model``; a hub model is downloaded unless it is in the cache."""
    if model in MODEL_FOLDERS:
        return MODEL_FOLDERS[model]
    place = Path(model).expanduser()
    if place.is_dir():
        return place
    if place.suffix in PICKLES:
        raise SdlabError(f"{place} is a pickle, which can run any program: get or make the model as .safetensors.")
    if place.suffix == ".safetensors" and place.is_file():
        return place
    hub_id = HUB_IDS.get(model, str(model))
    if _HUB_ID.fullmatch(hub_id) and place.suffix != ".safetensors":
        # SD 1.5's repository has its half precision files beside the others: half the download
        return _download(hub_id, "fp16" if model in HUB_IDS or dtype == torch.float16 else None, device, dtype)
    known = ", ".join(repr(name) for name in [*MODEL_FOLDERS, *HUB_IDS])
    raise SdlabError(
        f"There is no model {str(model)!r}: use {known}, a hub id such as 'owner/name', or a folder that exists."
    )


def check_folder(folder: Path, *, packaged: bool = False) -> str:
    """Return which pipeline ``folder`` holds; raise SdlabError unless it is one of ``KINDS`` with whole weights."""
    if not (folder / "model_index.json").is_file():
        advice = "get the course files again" if packaged else "give the folder that has one"
        raise SdlabError(f"The weights are missing: {folder} has no model_index.json; {advice}.")
    index = read_json(folder / "model_index.json")
    kind = _check_kind(index, folder)
    if packaged or (folder / "weights.json").is_file():
        verify_weights(folder)
    parts = [part for part, entry in index.items() if isinstance(entry, list) and entry[-1:] not in ([], [None])]
    for part in (part for part in parts if (folder / part / "config.json").is_file()):
        read_json(folder / part / "config.json")
    present = {file.parent.name for file in folder.glob("*/*.safetensors")}
    wanted = [name for name in parts if name.startswith(("text_encoder", "unet", "vae"))] or WEIGHED
    missing = [name for name in sorted({*wanted, *WEIGHED[1:]}) if name not in present]
    if missing:
        raise SdlabError(f"The weights are missing: {folder} has no safetensors file for {', '.join(missing)}.")
    for part in (part for part in parts if part.startswith("tokenizer")):
        names = {file.name for file in (folder / part).glob("*")}
        if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
            raise SdlabError(f"{folder} has no whole {part}: its vocab.json or merges.txt is missing; get them again.")
    return kind


def _check_kind(index: dict, place) -> str:
    if index.get("_class_name") not in KINDS:
        raise SdlabError(
            f"{place} holds a {short(index.get('_class_name'))[1:-1]}; the course works on a {' or '.join(KINDS)}."
        )
    return index["_class_name"]


def choose_variant(folder: Path, dtype: torch.dtype) -> str | None:
    """Return "fp16" where half precision was asked for and is there, or where a part has nothing else; else None."""
    plain, half = ({file.parent.name for file in weight_files(folder, kind, strict=True)} for kind in (None, "fp16"))
    return "fp16" if half and (dtype == torch.float16 or half - plain) else None


def _kind_of_file(file: Path) -> str:
    """Return which pipeline a single file in the layout of the first Stable Diffusion holds."""
    names = tensor_shapes(file)
    if not any(name.startswith("model.diffusion_model.") for name in names):
        raise SdlabError(f"{file} holds no whole model (a LoRA or a single part?): give a checkpoint or a folder.")
    return KINDS[any(name.startswith("conditioner.") for name in names)]


def _download(hub_id: str, variant: str | None, device, dtype: torch.dtype) -> Path:
    """Download the files of a hub model (or find them in the cache) and return their folder."""
    try:
        with quiet(progress=True):
            import diffusers
            from huggingface_hub import hf_hub_download

            files = _ask_files(hub_id)
            index = Path(hf_hub_download(hub_id, "model_index.json"))
            kind = getattr(diffusers, _check_kind(read_json(index), hub_id))  # before gigabytes are fetched
            wanted = f".{variant}." if variant else ".safetensors"
            sizes = [file.size or 0 for file in files if "/" in file.rfilename and wanted in file.rfilename]
            check_memory(sum(sizes) // (2 if variant else 4), device=device, dtype=dtype)
            return Path(kind.download(hub_id, variant=variant, use_safetensors=True))
    except SdlabError:
        raise
    except Exception as error:
        if variant and isinstance(error, ValueError):
            return _download(hub_id, None, device, dtype)  # a repository without half precision files
        raise _download_error(hub_id, error) from error


def _ask_files(hub_id: str) -> list:
    """Return what the hub says of a model's files; nothing where it cannot be asked, as without a network."""
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(hub_id, files_metadata=True).siblings or []
    except Exception:  # what is in the cache is measured when it is read
        return []


def _download_error(hub_id: str, error: BaseException) -> SdlabError:
    """Turn what the hub client raised into one sentence."""
    names, cause = set(), error
    while cause is not None:
        names.update(kind.__name__ for kind in type(cause).__mro__)
        cause = cause.__cause__ or cause.__context__
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if names & {"EntryNotFoundError", "RemoteEntryNotFoundError"} and "LocalEntryNotFoundError" not in names:
        return SdlabError(f"{hub_id} has no model_index.json: it is no whole pipeline in diffusers' layout.")
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


def _read(place: Path, kind: str, variant: str | None, dtype: torch.dtype):
    """Load the pipeline of a folder or a single file into the computer's memory, without progress bars."""
    import diffusers

    version = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    arguments = {"dtype" if version >= (0, 40) else "torch_dtype": dtype}
    try:
        with quiet():
            kind = getattr(diffusers, kind)
            if place.is_file():
                return kind.from_single_file(str(place), **arguments)
            return kind.from_pretrained(
                str(place), use_safetensors=True, local_files_only=True, variant=variant, **arguments
            )
    except Exception as error:
        advice = " (a single file needs its configs from the hub once)" if place.is_file() else ""
        raise SdlabError(f"The model in {place} could not be loaded{advice}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
