"""Write the trained parts as the three folders that the package ships: pocket (a pipeline), clip and judge.

Weights are the averaged ones, stored in float16; the configs say float32, so that a plain `from_pretrained`
computes in float32 on a CPU.
"""

import json
from copy import deepcopy
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from sdlab import SdlabError
from sdlab.prompts import words_of
from sdlab.weights import write_hashes

from ..portraits import VALUES
from ..portraits.captions import caption_corpus
from .checkpoints import history_of, load_state, weights_hash
from .clip import IMAGE_MEAN, IMAGE_STD, load_trained_clip
from .data import SIZE, world_of
from .encode import load_latent_vae
from .judge import load_trained_judge
from .log import read_log
from .tokenizer import save_tokenizer
from .unet import load_trained_unet, make_pipeline, make_scheduler, text_encoder_of


def export_models(out, *, clip, vae, unet, judge, tokenizer):
    """Write out/pocket, out/clip and out/judge from run folders, check that they draw, return their paths."""
    out = Path(out)
    clip_model, clip_tokenizer = load_trained_clip(clip, tokenizer)
    network, settings = load_trained_unet(unet)
    trained_with = load_state(unet)["info"]
    autoencoder = load_latent_vae(vae, trained_with["latents"])
    text_encoder = text_encoder_of(clip_model)
    if weights_hash(text_encoder) != trained_with["text_encoder"]:
        raise SdlabError(
            f"The U-Net of {unet} was trained with another text tower than that of {clip}; name that run."
        )
    pipe = make_pipeline(autoencoder, text_encoder, clip_tokenizer, network, make_scheduler(settings))
    export_pipeline(pipe, out / "pocket")
    export_clip(clip_model, clip_tokenizer, out / "clip")
    export_judge(load_trained_judge(judge), out / "judge")
    recipe = {
        part: describe_run(run)
        for part, run in {"clip": clip, "vae": vae, "unet": unet, "judge": judge}.items()
    }
    recipe |= _data_of(settings.data)
    (out / "pocket" / "training.json").write_text(json.dumps(recipe, indent=1) + "\n")
    (out / "pocket" / "words.txt").write_text("\n".join(known_words(world=recipe["world"])) + "\n")
    folders = [out / name for name in ("pocket", "clip", "judge")]
    for folder in folders:
        write_hashes(folder)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes files that only their owner can read
    check_pocket(out / "pocket", pipe)
    return folders


def export_pipeline(pipe, folder):
    """Save a pipeline in float16 with configs that load in float32."""
    halves = {name: deepcopy(getattr(pipe, name)).half() for name in ("vae", "text_encoder", "unet")}
    make_pipeline(**halves, tokenizer=pipe.tokenizer, scheduler=pipe.scheduler).save_pretrained(
        folder, safe_serialization=True
    )
    save_tokenizer(pipe.tokenizer, folder / "tokenizer")
    for part in ("text_encoder", "vae", "unet"):
        _clean_config(folder / part / "config.json")


def export_clip(clip, tokenizer, folder):
    """Save both towers, the tokenizer and the image processor of a CLIPModel."""
    deepcopy(clip).half().save_pretrained(folder, safe_serialization=True)
    save_tokenizer(tokenizer, folder)
    size = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    CLIPImageProcessor(**size, image_mean=[IMAGE_MEAN] * 3, image_std=[IMAGE_STD] * 3).save_pretrained(folder)
    _clean_config(folder / "config.json")


def export_judge(judge, folder):
    """Save the judge: judge.safetensors in float16 and config.json with the attribute values it reads."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: weight.half().contiguous() for name, weight in judge.state_dict().items()},
        folder / "judge.safetensors",
    )
    (folder / "config.json").write_text(
        json.dumps({"judge": judge.config, "attributes": VALUES}, indent=1) + "\n"
    )


def known_words(captions=20_000, world=None):
    """Return every word of the training captions, sorted: what the pocket model can know."""
    return sorted({word for text in caption_corpus(captions, seed=1, world=world) for word in words_of(text)})


def _data_of(folder):
    """Return which portraits a run has seen: how many, and the seeds they start from."""
    meta = json.loads((Path(folder) / "meta.json").read_text())
    seen = {"portraits": meta["n"], "first_seed": meta["first_seed"], "split": meta["split"]}
    return seen | {"world": world_of(folder)}


def describe_run(run):
    """Return the settings, length and last scores of a run, for the model card."""
    state = load_state(run)
    entries = read_log(run)
    last = {name: value for entry in entries for name, value in entry.items()}
    return history_of(state) | {"info": state["info"], "last": last}


def check_pocket(folder, pipe):
    """Load the folder the plain way: float32 everywhere, weights equal to the trained ones in float16."""
    loaded = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    for part in ("vae", "text_encoder", "unet"):
        model, trained = getattr(loaded, part), getattr(pipe, part)
        if any(weight.dtype != torch.float32 for weight in model.parameters()):
            raise SdlabError(
                f"{folder}/{part} does not load in float32; look at the dtype in its config.json."
            )
        for name, weight in trained.state_dict().items():
            if not torch.equal(weight.half().float().cpu(), model.state_dict()[name].float()):
                raise SdlabError(f"{folder}/{part} does not hold the trained weights: {name} differs.")
    loaded.set_progress_bar_config(disable=True)
    image = loaded("a man with blue eyes", num_inference_steps=3, output_type="pt").images
    if not torch.isfinite(image).all():
        raise SdlabError(f"The pipeline in {folder} draws values that are not finite; do not ship it.")
    CLIPModel.from_pretrained(folder.parent / "clip", local_files_only=True)
    CLIPTokenizer.from_pretrained(folder.parent / "clip", local_files_only=True)


def _clean_config(file):
    """Say float32 where the weights were stored in float16, and drop where they came from."""
    config = json.loads(file.read_text())
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        for name in ("dtype", "torch_dtype"):
            if name in part:
                part[name] = "float32"
        part.pop("_name_or_path", None)
    file.write_text(json.dumps(config, indent=2) + "\n")
