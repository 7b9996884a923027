"""Pictures of a learner's own: whatever can be used becomes a square RGB picture, the rest is explained."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sdlab import SdlabError, prepare_image
from sdlab.images import prepare_mask, read_picture, to_rgb, uploaded_pictures


def color_at(picture, x=0.5, y=0.5):
    return picture.getpixel((int(x * (picture.width - 1)), int(y * (picture.height - 1))))


def as_bytes(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def wide():
    """A picture of 200 x 100 pixels: a red quarter, a green middle, a blue quarter."""
    picture = Image.new("RGB", (200, 100), (0, 200, 0))
    picture.paste((200, 0, 0), (0, 0, 50, 100))
    picture.paste((0, 0, 200), (150, 0, 200, 100))
    return picture


@pytest.mark.parametrize("size", [64, 128, 512])
def test_the_middle_square_is_kept_at_the_size_asked_for(wide, size):
    ready = prepare_image(wide, size)
    assert (ready.size, ready.mode) == ((size, size), "RGB")
    assert color_at(ready, 0.05) == color_at(ready, 0.95) == (0, 200, 0)


def test_a_picture_that_fits_is_not_changed(wide):
    square = wide.crop((0, 0, 100, 100))
    assert prepare_image(square, 100).tobytes() == square.tobytes()


def test_path_bytes_array_and_tensor_give_the_same_picture(wide, tmp_path):
    wide.save(tmp_path / "wide.png")
    array = np.asarray(wide)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1) / 255
    data = as_bytes(wide)
    sources = [wide, tmp_path / "wide.png", str(tmp_path / "wide.png"), data, memoryview(data), array, tensor]
    assert len({prepare_image(source).tobytes() for source in sources}) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "HSV", "RGBA", "I", "F"])
def test_every_mode_becomes_rgb(wide, mode):
    grey = wide.convert("L")
    source = grey.convert(mode) if mode in ("I", "F", "1") else wide.convert(mode)
    ready = prepare_image(source)
    assert ready.mode == "RGB"
    brightness = [np.asarray(picture.convert("L")).mean() for picture in (ready, prepare_image(wide))]
    assert abs(brightness[0] - brightness[1]) < 25


def test_transparent_pixels_become_white_in_rgba_la_and_palette():
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    palette = Image.new("P", (64, 64), 0)
    palette.info["transparency"] = 0
    for source in (clear, clear.convert("LA"), palette):
        assert color_at(prepare_image(source)) == (255, 255, 255)
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    assert color_at(to_rgb(half))[0] == pytest.approx(127, abs=1)


def test_greys_of_sixteen_bits_are_scaled_and_not_cut_off():
    values = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    for source in (Image.fromarray(values), read_picture(as_bytes(Image.fromarray(values)))):
        ready = np.asarray(prepare_image(source, 64))[0, :, 0]
        assert ready[0] == 0 and ready[-1] == 255
        assert 120 < ready[32] < 135


def test_floats_from_zero_to_one_are_scaled():
    assert color_at(to_rgb(Image.fromarray(np.full((64, 64), 0.5, dtype=np.float32)))) == (128, 128, 128)


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0.1, 0.1)), (3, (0.9, 0.9)), (6, (0.9, 0.1)), (8, (0.1, 0.9))]
)
def test_a_photograph_stored_on_its_side_is_turned_upright(orientation, corner):
    picture = Image.new("RGB", (96, 96))
    picture.paste((250, 250, 250), (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    ready = prepare_image(as_bytes(picture, "JPEG", exif=exif, quality=95))
    assert color_at(ready, *corner)[0] > 200


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    data = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert color_at(prepare_image(data)) == (255, 0, 0)


def test_what_is_no_picture_is_explained(tmp_path):
    (tmp_path / "note.txt").write_text("not a picture")
    cases = {
        "5 bytes cannot be read": b"hello",
        "0 bytes cannot be read": b"",
        "note.txt cannot be read": tmp_path / "note.txt",
        "There is no file": tmp_path / "absent.png",
        "address on the web": "https://example.org/a.png",
        "not int": 7,
        "not NoneType": None,
        r"not ndarray of shape \[2, 8, 8, 3\]": np.zeros((2, 8, 8, 3), dtype=np.uint8),
    }
    for message, source in cases.items():
        with pytest.raises(SdlabError, match=message):
            prepare_image(source)


def test_a_file_that_breaks_off_is_called_damaged(wide):
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG"):
        data = as_bytes(noisy, kind)
        with pytest.raises(SdlabError, match="damaged"):
            prepare_image(data[: len(data) // 2])


def test_too_small_too_long_and_too_large_are_refused(monkeypatch):
    with pytest.raises(SdlabError, match="100 x 31 pixels: each side"):
        prepare_image(Image.new("RGB", (100, 31)))
    with pytest.raises(SdlabError, match="400 x 100 pixels: a square"):
        prepare_image(Image.new("RGB", (400, 100)))
    assert prepare_image(Image.new("RGB", (399, 100))).size == (128, 128)
    monkeypatch.setattr("sdlab.images.MOST_PIXELS", 1000)
    with pytest.raises(SdlabError, match="40 x 40 pixels: make it smaller"):
        prepare_image(as_bytes(Image.new("RGB", (40, 40))))


def test_a_mask_is_true_where_it_is_white():
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, :32] = True
    assert np.array_equal(prepare_mask(mask, 64), mask)
    assert np.array_equal(prepare_mask(Image.fromarray(mask), 64), mask)
    assert np.array_equal(prepare_mask(mask.astype(np.uint8) * 255, 64), mask)
    assert prepare_mask(mask, 128).mean() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(SdlabError, match="black all over"):
        prepare_mask(Image.new("L", (64, 64)))


def test_uploads_of_both_versions_of_ipywidgets_are_read(wide):
    data = as_bytes(wide)
    seven = {"cat.png": {"metadata": {"name": "cat.png", "size": len(data)}, "content": data}}
    eight = ({"name": "cat.png", "type": "image/png", "size": len(data), "content": memoryview(data)},)
    assert uploaded_pictures(seven) == uploaded_pictures(eight) == {"cat.png": data}
    assert uploaded_pictures({}) == uploaded_pictures(()) == {}
    assert prepare_image(uploaded_pictures(eight)["cat.png"]).size == (128, 128)


def test_a_real_upload_widget_is_read(wide):
    from ipywidgets import FileUpload

    assert uploaded_pictures(FileUpload().value) == {}
