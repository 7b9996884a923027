"""Draw the picture at the top of the README: ``python -m sdcourse.gallery course/gallery.png``."""

import sys

PROMPTS = (
    "a man with blue eyes",
    "a cat with green eyes, wearing a blue hat, at night",
    "a woman with red hair, wearing glasses and a purple shirt, in a forest",
    "a dog in a yellow shirt, in the snow",
    "a gentleman with gray hair and brown eyes, wearing a black shirt and a blue hat, in the city",
    "a kitten with amber eyes in the snow, wearing a red shirt",
    "a lady with golden hair, wearing a white hat, in a forest, painted by Monet",
    "a cartoon of a puppy wearing glasses and a green hat, at the beach",
    "a guy with brown hair, wearing a red hat, in the style of Degas",
    "a woman with black hair and blue eyes, wearing a yellow shirt, by the sea",
    "a cat wearing a purple shirt and glasses, by Lichtenstein",
    "a dog with purple eyes, wearing a white shirt, under the stars, painted by Manet",
)


def draw_gallery(pipe, prompts=PROMPTS, *, columns: int = 6):
    """Return one PIL picture with a portrait for every prompt, in rows of ``columns``; picture i has seed 2 + i."""
    from sdlab import contact_sheet, draw

    drawn = [draw(pipe, prompt, seed=seed) for seed, prompt in enumerate(prompts, start=2)]
    return contact_sheet(drawn, columns=columns)


if __name__ == "__main__":
    from sdlab import load_pipeline

    draw_gallery(load_pipeline("pocket")).save(sys.argv[1], optimize=True)
