"""Hostile bundles: the shipped demo spoiled in every way we know, with what should happen to each.

A case is decided by its seed alone. What it spoils is sealed again with a manifest that fits, as an attacker would do,
so that checksums catch nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import struct
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parents[2] / "DiffMaCore" / "data" / "demo"
INDEX, MANIFEST, CONFIG, WEIGHTS = (
    "model_index.json",
    "manifest.json",
    "config.json",
    "diffusion_pytorch_model.safetensors",
)
SCHEDULER = "scheduler/scheduler_config.json"
NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Case:
    """One bundle: ``spoil`` changes a sound copy in place and returns what is given to the program in its stead, if
    anything; ``names`` are words that its refusal must hold; None: it is sound and must be taken."""

    name: str
    spoil: Callable[[Path], Path | None]
    names: tuple[str, ...] | None
    reseal: bool = True


def make(case: Case, folder: Path) -> Path:
    """Write a case's bundle into the new ``folder`` and return what is to be given to the program."""
    shutil.copytree(DEMO, folder)
    _set(folder / INDEX, "bundle.name", "head")  # the demo's own is reserved
    seal(folder)
    given = case.spoil(folder)
    if case.reseal:
        seal(folder)
    return given or folder


def seal(folder: Path, /, **changes: Any) -> None:
    """A manifest that fits whatever the folder holds."""
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST):
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        files.append({"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    seal_list(folder, files, **changes)


def seal_list(folder: Path, files: list[dict[str, Any]], /, **changes: Any) -> None:
    """A manifest of these entries, with the checksum over them that our program expects."""
    text = "".join(f"{file.get('sha256')} {file.get('size')} {file.get('path')}\n" for file in files)
    total = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    content = {"format": 1, "bundle_sha256": total, "files": files, **changes}
    (folder / MANIFEST).write_text(json.dumps(content))


def cases(seed: int = 0) -> list[Case]:
    """All cases of a seed, those with drawn values and those that are the same in every seed."""
    random_ = random.Random(seed)
    found = [*_sound(), *_values(random_), *_indexes(), *_mismatches(), *_weights(), *_manifests(), *_files()]
    assert len({case.name for case in found}) == len(found)
    return found


# ---- values: a wrong one for every key of every file ----

_WRONG: dict[str, list[Any]] = {
    "count": [0, -1, 10**7, 10**9, 10**30, 10**400, 1.5, "x", "8", True, [], {}, [4], NAN, INF, 2**63, -(2**31)],
    "number": [0, -1, NAN, INF, -INF, 1e308, "x", "1e-3", True, [], {}, [1.0], 10**400],
    "flag": ["yes", "false", 2, [], {}, 1.0, NAN],
    "choice": ["evil", "", 7, [], {}, "../x", True, "__import__('os')", "x" * 10_000],
    "text": ["", " ", "x" * 10_000, "<b>bold</b>", "<img src=x onerror=alert(1)>", "a\nb", "\x1b[31mred", "\u202eabc",
             5, [], {}, None, "\x00", "\ud800"],
    "long": ["", " ", "x" * 1_000_000, "<script>alert(1)</script>", "a\x00b", "\x1b]0;owned\x07", 5, [], {}, None,
             "![x](http://127.0.0.1/track.png)"],
    "numbers": [[], ["a", "b", "c"], [NAN, 1, 2], [INF, INF, INF], 5, "abc", {}, [[[[]]]], [0] * 100_000, [-1, -1, -1]],
    "pair": [[], [1], [2, 1], [1, 1], [NAN, 1], [-INF, INF], [0, 1e308], ["a", "b"], 5, None, {}, [0, 1, 2]],
    "windows": [[], [[2, 1]], [[0, 1], [0, 1]], [["a", "b"]], [[NAN, 1]], [[-INF, INF]], [[0, 1e300]], 5, None, [5],
                [[[0, 1]]], [[0, 1]] * 10_000],
}  # fmt: skip

_KEYS: dict[str, dict[str, str]] = {
    "denoiser/config.json": {
        "width": "count", "depth": "count", "latent_size": "count", "patch_size": "count", "in_channels": "count",
        "state_size": "count", "conv_size": "count", "expand": "count", "contrasts": "count", "pixel_channels": "count",
        "pixel_factor": "count", "backbone": "choice", "scan_order": "choice", "ct_conditioning": "choice",
        "learn_sigma": "flag", "inner": "count",
    },
    "embedder/config.json": {
        "width": "count", "latent_size": "count", "patch_size": "count", "in_channels": "count", "mask_hidden": "count",
    },
    "vae/config.json": {
        "factor": "count", "latent_channels": "count", "channels": "count", "blocks": "count",
        "scaling_factor": "number",
    },
    "image_encoder/config.json": {
        "embed_dim": "count", "vision_cfg.width": "count", "vision_cfg.layers": "count",
        "vision_cfg.head_width": "count",
        "vision_cfg.patch_size": "count", "vision_cfg.image_size": "count", "vision_cfg.mlp_ratio": "number",
        "vision_cfg": "choice",
    },
    "guided_decoder/config.json": {
        "blocks": "count", "channels": "numbers", "latent_channels": "count", "pixel_channels": "count",
        "expects_error": "flag",
    },
    SCHEDULER: {
        "num_train_timesteps": "count", "beta_start": "number", "beta_end": "number", "beta_schedule": "choice",
        "prediction_type": "choice", "algorithm_type": "choice", "solver_type": "choice", "solver_order": "count",
        "timestep_spacing": "choice", "final_sigmas_type": "choice", "trained_betas": "numbers", "thresholding": "flag",
        "use_lu_lambdas": "flag", "rescale_betas_zero_snr": "flag", "flow_shift": "number", "variance_type": "choice",
        "lower_order_final": "flag", "use_flow_sigmas": "flag", "sample_max_value": "number",
    },
    INDEX: {
        "bundle.image_size": "count", "bundle.pixel_spacing": "number", "bundle.uncertainty_scale": "number",
        "bundle.error_scale": "number",
        "bundle.neighbour_distance": "number", "bundle.demo": "flag", "bundle.name": "text", "bundle.title": "text",
        "bundle.anatomy": "text", "bundle.output_units": "text", "bundle.source_modality": "text",
        "bundle.target_modality": "text", "bundle.hu_windows": "windows", "bundle.output_range": "pair",
        "bundle.modes": "choice", "bundle.missing": "choice", "bundle.mr_normalisation": "choice",
        "bundle.source_normalisation": "choice", "bundle.image_encoder_mean": "numbers", "bundle.card": "choice",
        "bundle.card.limits": "long", "bundle.card.licence": "long", "bundle.card.training_data": "long",
        "bundle.card.source": "long", "bundle.card.version": "text",
    },
}  # fmt: skip


def _values(random_: random.Random, each: int = 2) -> Iterator[Case]:
    """``each`` wrong values of every key, drawn."""
    for file, keys in _KEYS.items():
        for key, kind in keys.items():
            wrong = _WRONG[kind]
            for i in sorted(random_.sample(range(len(wrong)), each)):
                yield _edit(f"{file} {key} = {_short(wrong[i])}", file, key, wrong[i])


def _edit(name: str, file: str, key: str, value: Any, *names: str) -> Case:
    """The case in which ``key`` of ``file`` (dots go deeper) has another value."""

    def spoil(folder: Path) -> None:
        _set(folder / file, key, value)

    return Case(name, spoil, names or (file, key.rpartition(".")[2]))


def _set(path: Path, key: str, value: Any) -> None:
    content = json.loads(path.read_text())
    place = content
    *above, last = key.split(".")
    for step in above:
        place = place[step]
    place[last] = value
    path.write_text(json.dumps(content))


def _short(value: Any) -> str:
    text = "10**400" if value == 10**400 else ascii(value)
    return text if len(text) < 30 else f"{text[:20]}... ({len(text)})"


# ---- what must be taken: the demo, and what is unusual in it but right ----


def _sound() -> Iterator[Case]:
    def same(folder: Path) -> None:
        """Nothing."""

    def change(file: str, key: str, value: Any) -> Callable[[Path], None]:
        return lambda folder: _set(folder / file, key, value)

    yield Case("sound: the demo", same, None)
    yield Case("sound: an accent in the title", change(INDEX, "bundle.title", "Tête: CT vers IRM"), None)
    yield Case("sound: fewer than, in a card", change(INDEX, "bundle.card.limits", "p < 0.05, 3 < 4\nand more"), None)
    yield Case("sound: other windows", change(INDEX, "bundle.hu_windows", [[-1, 1], [-2, 3], [0, 80]]), None)
    yield Case("sound: 500 training steps", change(SCHEDULER, "num_train_timesteps", 500), None)
    yield Case("sound: another output range", change(INDEX, "bundle.output_range", [-1, 1]), None)
    yield Case("sound: an encoder's mean", _encoder_mean, None)
    yield Case("sound: sample mode alone", change(INDEX, "bundle.modes", ["sample"]), None)
    yield Case("sound: no family", change(INDEX, "bundle.family", ""), None)
    yield Case("sound: the released order", change("denoiser/config.json", "scan_order", "released"), None)
    yield Case("sound: without guided decoder", _without_guided, None)
    yield Case("sound: older configuration", _older, None)


def _encoder_mean(folder: Path) -> None:
    for key in ("mean", "std"):
        _set(folder / INDEX, f"bundle.image_encoder_{key}", [0.5, 0.5, 0.5])


def _without_guided(folder: Path) -> None:
    shutil.rmtree(folder / "guided_decoder")
    _set(folder / INDEX, "guided_decoder", [None, None])


def _older(folder: Path) -> None:
    """A bundle of an earlier version: keys with defaults are not there."""
    for file, gone in (("denoiser/config.json", ("inner", "contrasts")), (SCHEDULER, ("use_dynamic_shifting",))):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if key not in gone}))


# ---- the index, and keys that choose code ----


def _indexes() -> Iterator[Case]:
    name: Any
    entry: Any
    value: Any
    for name in ("StableDiffusionPipeline", "DiffusionPipeline", "", None, 5, [], {}, "x" * 10_000, "OnnxPipeline",
                 ["pipeline", "Evil"], ["DiffMaPipeline", "DiffMaPipeline"], "DiffMaPipeline.py"):  # fmt: skip
        yield _edit(f"index _class_name = {_short(name)}", INDEX, "_class_name", name)
    yield Case("index _class_name names a file with code", _index_with_code, ("_class_name",))
    for key, value in (
        ("custom_pipeline", "evil"), ("auto_map", {"AutoModel": "evil.Evil"}), ("trust_remote_code", True),
        ("_module", "evil"), ("safety_checker", ["transformers", "Evil"]), ("feature_extractor", [None, None]),
        ("requires_safety_checker", True), ("denoisr", ["DiffMaCore.models.diffma", "DiffMa"]),
        ("_name_or_path", "hub/evil"), ("quantization_config", {}), ("torch_dtype", "float16"), ("__class__", "x"),
        ("bundles", {}), ("unet", ["diffusers", "UNet2DModel"]),
    ):  # fmt: skip
        if key != "_name_or_path":
            yield _edit(f"index has {key}", INDEX, key, value)
    for component in ("denoiser", "embedder", "vae", "image_encoder", "scheduler", "guided_decoder"):
        for entry in (["diffusers", "UNet2DModel"], ["os", "system"], ["DiffMaCore.bundles.store", "remove"], [None,
        None],
                      ["transformers", "CLIPModel"], ["diffusers"], ["diffusers", None], "DiffMa", {}, [["diffusers"],
                      "x"],
                      ["diffusers.pipelines", "X"], ["DiffMaCore.evil",
                      "Evil"])[:: 1 if component == "vae" else 3]:  # fmt: skip
            if component != "guided_decoder" or entry != [None, None]:
                yield _edit(f"index {component} = {_short(entry)}", INDEX, component, entry)
    for file, right in (("denoiser", "DiffMa"), ("embedder", "VisionEmbedder"), ("vae", "PatchAutoencoder"),
                        ("image_encoder", "ImageEncoder"), ("guided_decoder", "GuidedDecoder")):  # fmt: skip
        path = f"{file}/config.json"
        for name in ("AsymmetricAutoencoderKL", "StableDiffusionPipeline", ["a", right], 5):
            yield _edit(f"{path} _class_name = {_short(name)}", path, "_class_name", name)
        for key, value in (("auto_map", {"AutoModel": "evil--evil.Evil"}), ("quantization_config",
        {"quant_method": "gptq"}),
                           ("custom_pipeline", "evil"), ("_diffusers_version", {}), ("widht", 192)):  # fmt: skip
            yield _edit(f"{path} has {key}", path, key, value)
    for key, value in (("_class_name", "EulerDiscreteScheduler"), ("_class_name", "Evil"), ("solver_p", {}),
    ("sigma_min", 1),
                       ("auto_map", {}), ("interpolation", "x"), ("_use_default_values", {"x": 1})):  # fmt: skip
        yield _edit(f"scheduler has {key} = {_short(value)}", SCHEDULER, key, value)
    for key, value in (("timm_model_name", "hf-hub:evil/evil"), ("timm_model_name", "resnet50"),
    ("timm_model_pretrained", True),
                       ("block_type", "evil"), ("act_kwargs", {"x": 1}), ("norm_kwargs", {"eps": "x"}), ("layer",
                       3)):  # fmt: skip
        yield _edit(
            f"image encoder's tower has {key} = {value}", "image_encoder/config.json", f"vision_cfg.{key}", value
        )
    yield Case("index: another library's autoencoder", _foreign_vae, ("vae",))


def _index_with_code(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('code of a bundle was run')\n")
    _set(folder / INDEX, "_class_name", ["evil", "Evil"])


def _foreign_vae(folder: Path) -> None:
    _set(folder / INDEX, "vae", ["diffusers", "AutoencoderKLWan"])
    (folder / "vae" / CONFIG).write_text(json.dumps({"_class_name": "AutoencoderKLWan", "z_dim": 8}))


# ---- parts that do not fit each other ----


def _mismatches() -> Iterator[Case]:
    for file, key, value in (
        (INDEX, "bundle.image_size", 224), (INDEX, "bundle.image_size", 156), ("embedder/config.json", "latent_size",
        20),
        ("embedder/config.json", "width", 96), ("embedder/config.json", "patch_size", 4), ("denoiser/config.json",
        "latent_size", 80),
        ("denoiser/config.json", "patch_size", 3), ("denoiser/config.json", "in_channels", 4),
        ("denoiser/config.json", "width", 190),
        ("denoiser/config.json", "inner", 384), ("denoiser/config.json", "pixel_factor", 8), ("denoiser/config.json",
        "pixel_channels", 3),
        ("denoiser/config.json", "learn_sigma", True), ("vae/config.json", "factor", 8), ("vae/config.json",
        "latent_channels", 16),
        ("vae/config.json", "latent_channels", 17), ("image_encoder/config.json", "embed_dim", 512),
        ("image_encoder/config.json", "vision_cfg.head_width", 60), ("image_encoder/config.json",
        "vision_cfg.patch_size", 15),
        ("guided_decoder/config.json", "channels", [16, 32]), ("guided_decoder/config.json", "pixel_channels", 3),
        ("guided_decoder/config.json", "latent_channels", 4), (SCHEDULER, "prediction_type", "epsilon"),
        (SCHEDULER, "beta_start", 0.5), (INDEX, "bundle.neighbour_distance", None), (INDEX, "bundle.hu_windows",
        [[-1000, 1000]]),
        (INDEX, "bundle.modes", ["mean", "mean"]), (INDEX, "bundle.modes", []), (INDEX, "bundle.missing", ["vae"]),
        (INDEX, "bundle.image_encoder_mean", [0.5, 0.5, 0.5]), (INDEX, "bundle.image_encoder_std", [0, 0, 0]),
    ):  # fmt: skip
        yield _edit(f"unfit: {file} {key} = {_short(value)}", file, key, value, key.rpartition(".")[2])
    yield Case("unfit: a denoiser of width 8192 without weights for it", _wide, ("denoiser",))
    yield Case("unfit: a denoiser of depth 100 without weights for it", _deep, ("denoiser",))
    for component in ("denoiser", "embedder", "vae", "image_encoder", "guided_decoder"):
        yield Case(f"unfit: {component} without its weights", _deleting(f"{component}/{WEIGHTS}"), (component,))
        yield Case(f"unfit: {component} without its configuration", _deleting(f"{component}/{CONFIG}"), (component,))
    yield Case("unfit: no scheduler", _deleting(SCHEDULER), ("scheduler",))
    yield Case("unfit: no index", _deleting(INDEX), (INDEX,))


def _wide(folder: Path) -> None:
    for file, key in (("denoiser", "width"), ("embedder", "width"), ("image_encoder", "embed_dim")):
        _set(folder / file / CONFIG, key, 8192)


def _deep(folder: Path) -> None:
    _set(folder / "denoiser" / CONFIG, "depth", 100)


def _deleting(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


# ---- weights ----


def _weights() -> Iterator[Case]:
    file = f"vae/{WEIGHTS}"

    def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            header, data = read_safetensors(folder / file)
            instead = change(header)
            write_safetensors(folder / file, header if instead is None else instead, data)

        return spoil

    def first(header: dict[str, Any]) -> str:
        return next(name for name in header if name != "__metadata__")

    def drop(header: dict[str, Any]) -> None:
        """One tensor less; its bytes go to a name that no network has."""
        header["evil"] = header.pop(first(header))

    def shape(header: dict[str, Any]) -> None:
        header[first(header)]["shape"] = [10**9, 10**9]

    def offsets(header: dict[str, Any]) -> None:
        header[first(header)]["data_offsets"] = [0, 1 << 40]

    def overlap(header: dict[str, Any]) -> None:
        names = [name for name in header if name != "__metadata__"]
        header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]

    def dtype(header: dict[str, Any]) -> None:
        header[first(header)]["dtype"] = "EVIL"

    def raw(content: bytes) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            (folder / file).write_bytes(content)

        return spoil

    whole = (DEMO / file).read_bytes()
    for name, spoil in (
        ("a tensor is missing and another is there", with_header(drop)),
        ("a tensor of 10**18 elements", with_header(shape)),
        ("offsets beyond the file", with_header(offsets)),
        ("two tensors on the same bytes", with_header(overlap)),
        ("an unknown element type", with_header(dtype)),
        ("a header that is a list", with_header(lambda header: [])),
        ("an empty header", with_header(lambda header: {})),
        ("a deep header", raw(_framed(b"[" * 100_000))),
        ("a header of 2**63 bytes", raw(struct.pack("<Q", 2**63) + b"{}")),
        ("a header of 90 MB that is not there", raw(struct.pack("<Q", 90_000_000) + b"{}")),
        ("a pickle", raw(b"\x80\x04cos\nsystem\n(S'true'\ntR.")),
        ("nothing", raw(b"")),
        ("seven bytes", raw(b"1234567")),
        ("cut in half", raw(whole[: len(whole) // 2])),
        ("bytes behind the last tensor", raw(whole + b"evil" * 1000)),
        ("a web page", raw(b"<html>404</html>" * 100)),
    ):
        yield Case(f"weights: {name}", spoil, (file,))
    yield Case("weights: of another component", _exchanged, ("denoiser",))


def _exchanged(folder: Path) -> None:
    shutil.copy(folder / "vae" / WEIGHTS, folder / "denoiser" / WEIGHTS)


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data."""
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:end]), content[end:]


def write_safetensors(path: Path, header: Any, data: bytes) -> None:
    """Whatever header, before the data."""
    path.write_bytes(_framed(json.dumps(header).encode()) + data)


def _framed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


# ---- manifests ----


def _manifests() -> Iterator[Case]:
    def entries(folder: Path) -> list[dict[str, Any]]:
        return json.loads((folder / MANIFEST).read_text())["files"]

    def with_entry(**changes: Any) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            files = entries(folder)
            files[1] |= changes
            seal_list(folder, files)

        return spoil

    def more(path: Any) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            seal_list(folder, [*entries(folder), {"path": path, "size": 0, "sha256": hashlib.sha256().hexdigest()}])

        return spoil

    def text(content: str | bytes) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            (folder / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())

        return spoil

    def top(**changes: Any) -> Callable[[Path], None]:
        return lambda folder: seal_list(folder, entries(folder), **changes)

    for name, spoil in (
        *((f"size = {_short(value)}", with_entry(size=value))  # type: ignore[var-annotated]
          for value in (INF, NAN, -1, 1e308, 10**30, 10**400, "12", None, [], 443.0, True)),
        *((f"sha256 = {_short(value)}", with_entry(sha256=value))  # type: ignore[var-annotated]
          for value in ("", "x", 5, None, [], "A" * 64,
        "0" * 63)),
        *((f"path = {_short(value)}", with_entry(path=value))  # type: ignore[var-annotated]
          for value in (None, 5, [], {}, "", ".", "x" * 10_000)),
        *((f"lists {_short(value)}", more(value))
          for value in ("../evil", "/etc/passwd", "a/../../evil", "C:\\evil", "\\\\host\\share", "a//b", "./a", "a/.",
          "con",
                        "nul.json", "denoiser/aux.txt", "a\x00b", "a\nb", "a:b", "README.md ", "x.",
                        "DENOISER/config.json",
                        "x" * 300, "/".join(["d"] * 2000), "evil.py", "evil.pkl", "evil.bin", "evil.PT", "e.so",
                        "e.dll", "e.sh",
                        "e.exe", "e.pth", "e.ckpt", "e.msgpack", "e.joblib", "e.npy", "vae/other.safetensors",
                        "\u202egpj.exe",
                        "vae/diffusion_pytorch_model.safetensors.index.json", "manifest.json",
                        unicodedata.normalize("NFD", "é.md"))),
        ("is a list", text("[]")), ("is nothing", text("")), ("is no JSON", text("{")), ("is NaN", text("NaN")),
        ("has an endless depth", text('{"files":' * 100_000)), ("has endless lists", text("[" * 1_000_000)),
        ("is not UTF-8", text(b"\xff\xfe{}")), ("is 50 MB of blanks", text(" " * 50_000_000)),
        ("is of format 2", top(format=2)), ("is of format true", top(format=True)), ("is of format nothing",
        top(format=None)),
        ("has no files", top(files=[])), ("has files that are a mapping", top(files={})), ("has files that are text",
        top(files="evil")),
        ("has files of text", top(files=["evil"])), ("has files that are nothing", top(files=None)),
        ("has another checksum", top(bundle_sha256="0" * 64)), ("has a checksum that is a number",
        top(bundle_sha256=0)),
        ("has an unknown key", top(evil=1)), ("has a million files", top(files=[{"path": "x", "size": 1,
        "sha256": "0"}] * 200_000)),
    ):  # fmt: skip
        yield Case(f"manifest: {name}", spoil, () if name.startswith(("lists", "path")) else (MANIFEST,), reseal=False)


# ---- files and folders ----


def _files() -> Iterator[Case]:
    def link(name: str, target: str) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            place = folder / name
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            place.symlink_to(target)

        return spoil

    def fifo(name: str) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            (folder / name).unlink(missing_ok=True)
            os.mkfifo(folder / name)

        return spoil

    def give(path: str) -> Callable[[Path], Path]:
        return lambda folder: Path(path)

    def as_folder(name: str) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            (folder / name).unlink()
            (folder / name).mkdir()

        return spoil

    def given_fifo(folder: Path) -> Path:
        os.mkfifo(folder.with_name("fifo"))
        return folder.with_name("fifo")

    def loop(folder: Path) -> Path:
        folder.with_name("loop").symlink_to("loop")
        return folder.with_name("loop")

    def json_of(name: str, content: bytes) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            (folder / name).write_bytes(content)

        return spoil

    def extra(name: str, content: bytes = b"evil") -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

        return spoil

    for path in ("/dev/zero", "/dev/null", "/dev/random", "/dev/stdin", "/proc/self/mem", "/", "", "."):
        yield Case(f"given: {path!r}", give(path), ())
    yield Case("given: a named pipe", given_fifo, ("fifo",))
    yield Case("given: a link to itself", loop, ())
    yield Case("given: a path beyond the file system", give("x" * 5000), ())
    yield Case("given: a path with a null byte", give("a\x00b"), ())
    for name in (INDEX, MANIFEST, "denoiser/config.json", f"vae/{WEIGHTS}", SCHEDULER):
        yield Case(f"files: {name} is a named pipe", fifo(name), (name,), reseal=name != MANIFEST)
        yield Case(f"files: {name} links to /dev/zero", link(name, "/dev/zero"), (name,), reseal=False)
        yield Case(f"files: {name} is a folder", as_folder(name), (name,), reseal=name != MANIFEST)
    yield Case("files: a folder is a link", link("vae", "/etc"), ("vae",), reseal=False)
    yield Case("files: README.md links to a secret", link("README.md", "/etc/passwd"), ("README.md",), reseal=False)
    for name in (INDEX, "denoiser/config.json", "image_encoder/config.json", SCHEDULER):
        yield Case(f"files: {name} has an endless depth", json_of(name, b'{"a":' * 100_000), (name,))
        yield Case(f"files: {name} is a list", json_of(name, b"[1]"), (name,))
        yield Case(f"files: {name} is not UTF-8", json_of(name, b'{"\xff": 1}'), (name,))
        yield Case(f"files: {name} is 60 MB", json_of(name, b"{" + b" " * 60_000_000 + b"}"), (name,))
    for name in ("evil.py", "vae/evil.pkl", "vae/diffusion_pytorch_model.bin", "denoiser/denoiser.py",
    "vae/pytorch_model.pt",
                 "vae/diffusion_pytorch_model.fp16.safetensors", "evil.so", "evil.sh", "setup.exe",
                 "vae/modeling.json"):  # fmt: skip
        yield Case(f"files: also {name}", extra(name), (name,))
    sharded = {"metadata": {}, "weight_map": {"mean": "../../../../../../etc/passwd"}}
    index = f"vae/{WEIGHTS}.index.json"
    yield Case("files: weights in parts that lie elsewhere", extra(index, json.dumps(sharded).encode()), (index,))
