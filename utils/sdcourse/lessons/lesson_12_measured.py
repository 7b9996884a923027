"""Measurements of full-size Stable Diffusion: tests/benchmarks/full_size.py stores them, lesson 12 reads them."""

import json
from pathlib import Path

from sdlab import SdlabError
from sdlab.figures import Table

FOLDER = Path(__file__).parents[1] / "measured"


def read_measured(device: str = "cpu", *, folder: str | Path = FOLDER) -> dict | None:
    """Return the newest stored measurement of full-size SD 1.5 on a kind of device ("cuda", "cpu"); None if none is."""
    if device not in ("cuda", "cpu", "mps"):
        raise SdlabError(f"device={device!r} is no kind of device: use 'cuda', 'cpu' or 'mps'.")
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(Path(folder).glob("*.json"))]
    found = [result for result in found if result["device"] == device and result["size"] == "sd15"]
    return max(found, key=lambda result: result["date"], default=None)


def describe(result: dict | None, device: str = "cuda") -> str:
    """Return one line: where and when a measurement was made, with its versions; or how to make one."""
    if result is None:
        where = {"cuda": "a GPU", "cpu": "a CPU"}.get(device, device)
        return f"not measured yet: on {where}, run  python tests/benchmarks/full_size.py"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    threads = f", {result['threads']} thread{'s' * (result['threads'] > 1)}" if result["threads"] else ""
    return f"{result['name']}{threads}, measured on {result['date']} ({versions}, {result['weights']} weights)"


def picture_seconds(result: dict, row: dict) -> float:
    """Return the seconds of one picture: measured where whole pictures were drawn, else put together from the parts."""
    if "seconds_picture" in row:
        return row["seconds_picture"]
    others = sum(result["parts"].get(part, 0.0) for part in ("text_encoder", "vae"))
    return row["seconds_call"] * row["unet_calls"] + others


def to_markdown(result: dict) -> str:
    """Return a measurement as a Markdown table with what it belongs to above and below it."""
    drawn = any("seconds_picture" in row for row in result["rows_measured"])
    lines = [
        f"# Stable Diffusion, {result['size']}, {result['picture']} px, {result['steps']} steps with guidance\n",
        describe(result, result["device"]) + ".\n",
        f"A U-Net call (two rows) takes {2 * result['flops_unet_row'] / 1e9:,.0f} GFLOP. "
        + ("Pictures were drawn whole." if drawn else "Seconds a picture are put together from single calls."),
        "",
        "| variant | dtype | s a call | s a picture | peak GB | TFLOP/s | share of peak | differs by (std) |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_line(result, row) for row in result["rows_measured"]]
    lines += [f"\nNot measured: {name} ({why})." for name, why in result["not_measured"].items()]
    lines += [_below(result)]
    return "\n".join(lines)


def measured_table(result: dict) -> Table:
    """Return the variants of a measurement in rows; speed is against the first one, plain float32."""
    first, rows = result["rows_measured"][0]["seconds_call"], []
    for row in result["rows_measured"]:
        peak = row.get("peak_picture") or row.get("peak_call")
        rows.append(
            (
                row["variant"],
                row["dtype"],
                f"{row['seconds_call']:.3g}",
                f"{first / row['seconds_call']:.2f}",
                _short(picture_seconds(result, row)),
                f"{peak / 1e9:.1f}" if peak else "",
                f"{row['difference']:.1g}",
            )
        )
    head = ("variant", "numbers", "s a call", "times faster", "s a picture", "peak GB", "answer differs by (std)")
    return Table(head, rows)


def _short(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _line(result: dict, row: dict) -> str:
    picture = f"{picture_seconds(result, row):.2f}" if result["parts"] or "seconds_picture" in row else ""
    peak = row.get("peak_picture") or row.get("peak_call")
    share = f"{row['share_of_peak']:.1%}" if "share_of_peak" in row else ""
    return (
        f"| {row['variant']} | {row['dtype']} | {row['seconds_call']:.4g} | {picture} "
        f"| {peak / 1e9 if peak else float('nan'):.2f} | {row['tflops']:.3g} | {share} | {row['difference']:.2g} |"
    )


def _below(result: dict) -> str:
    parts = result["parts"]
    lines = []
    if parts:
        names = ("text_encoder", "unet", "vae")
        lines.append(
            f"\nWhere the time of one picture goes ({parts['variant']}; {parts['unet_calls']} U-Net calls, "
            f"{parts['unet_calls_measured']} of them measured): "
            + ", ".join(f"{name} {parts[name]:.3g} s" for name in names)
        )
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in result["matrix_tflops"].items())
    lines.append(f"\nOne large matrix product on this device (TFLOP/s): {rates}.")
    if result["peak_tflops"]:
        lines.append(f"\nPeak: {result['peak_tflops']:g} TFLOP/s ({result['peak_source']}).")
    pocket = result["pocket_pictures_per_second"]
    steps = min(20, result["steps"])
    lines.append(f"\nPocket model, pictures a second ({steps} steps, guidance), in turns in the same run:\n")
    lines.append("| way | pictures / s | against plain |\n|---|---:|---:|")
    plain = pocket["plain diffusers"]
    lines += [f"| {name} | {rate:.3g} | {rate / plain:.2f} |" for name, rate in pocket.items()]
    return "\n".join(lines)
