"""LoRA: every chosen weight matrix W gets a product of two thin ones, W + scale * B A (Hu et al. 2021, section 4.1).

``peft`` does the work, through diffusers' own adapter calls, so what is saved here loads in plain diffusers.
"""

from pathlib import Path

import torch

from ..arguments import check_weight
from ..compat import need, quiet, unet_of
from ..errors import SdlabError, context
from ..weights import readable, write_hashes

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
WEIGHTS = "pytorch_lora_weights.safetensors"


def add_lora(pipe, *, rank: int = 4, name: str = "lora", targets: tuple[str, ...] = TARGETS) -> dict:
    """Give every attention layer a new adapter: A random, B zero; return its parameters {name: parameter}.

    Only these parameters get gradients afterwards. lora_alpha equals the rank, so the factor alpha / r is 1.
    """
    LoraConfig = need("peft", of="A LoRA").LoraConfig
    if not isinstance(rank, int) or rank < 1:
        raise SdlabError(f"rank={rank!r} must be a whole number of at least 1; try 4.")
    unet = unet_of(pipe)
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(targets)), name
    )
    return {key: value for key, value in unet.named_parameters() if f".{name}." in key}


def save_lora(pipe, folder: str | Path, *, name: str = "lora") -> Path:
    """Write the adapter ``name`` in float16, as ``pipe.load_lora_weights`` of plain diffusers reads it."""
    from diffusers import StableDiffusionPipeline

    weights = need("peft.utils", of="A LoRA").get_peft_model_state_dict(unet_of(pipe), adapter_name=name)
    weights = {key: value.detach().half().contiguous() for key, value in weights.items()}
    StableDiffusionPipeline.save_lora_weights(str(folder), unet_lora_layers=weights)
    (Path(folder) / WEIGHTS).chmod(0o644)
    write_hashes(folder)
    return Path(folder) / WEIGHTS


@context
def use_lora(pipe, folder: str | Path, *, scale: float = 1.0):
    """Draw with the LoRA in ``folder`` inside the block: W + scale * B A; scale 0 is exactly the base model.

    folder: or the LoRA's own file, in the layout of diffusers, peft or kohya.

    Everything is taken out at the end, also after an error. Raises SdlabError for damaged weights, a scale that is
    no number, or an adapter of another model.
    """
    from safetensors.torch import load_file

    scale, unet, file = check_weight(scale), unet_of(pipe), _find_file(Path(folder))
    if getattr(unet, "peft_config", None):
        raise SdlabError("This pipeline has a LoRA already: leave its with block first, or load the pipeline anew.")
    need("peft", of="A LoRA")
    with readable(file, "LoRA"), quiet():
        weights = load_file(file)
        _check_shapes(pipe.lora_state_dict(dict(weights), unet_config=unet.config)[0], unet)
    try:
        with quiet(), readable(file, "LoRA"):
            pipe.load_lora_weights(weights, adapter_name="lora")
            pipe.set_adapters("lora", scale)
        yield pipe
    finally:
        pipe.unload_lora_weights()


def _find_file(path: Path) -> Path:
    """Return the LoRA's file: ``path`` itself, or in that folder the one of diffusers' name, or the only one."""
    if path.is_file() and path.suffix == ".safetensors":
        return path
    found = [path / WEIGHTS] if (path / WEIGHTS).is_file() else sorted(path.glob("*.safetensors"))
    if len(found) > 1:
        raise SdlabError(f"{path} holds {len(found)} safetensors files: give the path of the one that is the LoRA.")
    if not found:
        raise SdlabError(f"There is no LoRA in {path}: it would be a .safetensors file, in a folder {WEIGHTS}.")
    return found[0]


def lora_shapes(weights: dict | str | Path) -> dict[str, tuple[int, int]]:
    """Return {module: (d_out, d_in)} of the weights of the U-Net that a LoRA (a file or its tensors) was made for."""
    from safetensors.torch import load_file

    weights, shapes = weights if isinstance(weights, dict) else load_file(weights), {}
    for key, tensor in weights.items():
        module, _, part = key.removeprefix("unet.").rpartition(".lora")
        if module and not key.startswith("text_encoder"):
            before, down = shapes.get(module, (0, 0)), part.startswith(("_A", ".down"))
            shapes[module] = (before[0], tensor.shape[1]) if down else (tensor.shape[0], before[1])
    return shapes


def _check_shapes(weights: dict, unet) -> None:
    if not any("lora" in key for key in weights):
        raise SdlabError("This file holds no LoRA that diffusers can read.")
    matrices = {
        name: tuple(module.weight.shape[:2])
        for name, module in unet.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    }
    check_fits(lora_shapes(weights), matrices, what="LoRA")


def check_fits(wanted: dict, found: dict, *, what: str) -> None:
    """Raise SdlabError unless every shape that an adapter was ``wanted`` for is ``found`` in the model.

    wanted, found: name -> shape. The sentence names the first difference.
    """
    for name, shape in wanted.items():
        if name not in found:
            raise SdlabError(f"This {what} belongs to another model: the U-Net here has no '{name}'.")
        if tuple(shape) != tuple(found[name]):
            raise SdlabError(
                f"This {what} belongs to another model: it was made for {name} of the shape {list(shape)}, "
                f"but here it is {list(found[name])}."
            )
