"""Every Triton kernel and configuration compiles ahead of time for sm_80 and sm_90, without a GPU.

Registers and the stack are read off the machine code: a spill, or more registers than stated here, is a failure.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)
triton = pytest.importorskip("triton", reason="no Triton on this platform")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

# Shared memory that one program may take, in bytes.
SHARED = {80: 163 * 1024, 90: 227 * 1024}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# Of a parameter's type by the first letters of its name; all others are int32.
POINTERS = {
    "match_cosine": {
        "p_starts": "*i64",
        "p_pairs": "*i64",
        "p_ends": "*i64",
        "p_keys": "*i64",
        "p_settled": "*i64",
        "p_index": "*i64",
    },
    "nearest_canonical": {
        "p_pixel": "*i64",
        "p_images": "*i64",
        "p_starts": "*i64",
        "p_pixels": "*i32",
        "p_centres": "*i64",
    },
    "contrast_points": {"p_valid": "*u8"},
}
FLOATS = ("sigma", "radius", "inverse_temperature", "weight", "momentum", "eps")


class Variant(NamedTuple):
    """One kernel as one of its launches compiles it, and the most registers a thread may take."""

    operation: str
    kernel: str
    registers: int
    constants: dict[str, object]
    options: dict[str, int]
    types: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    wgmma: bool = False
    capabilities: tuple[int, ...] = (80, 90)

    def __str__(self) -> str:
        flags = [name.lower() for name, value in self.constants.items() if value is True]
        words = [value for value in self.constants.values() if isinstance(value, str)]
        return "-".join((self.kernel.removesuffix("_kernel"), *words, *flags))


def _module(operation: str):
    return importlib.import_module(f"asic_flow.kernels.{operation}._triton")


def _split(config: dict[str, object]) -> tuple[dict[str, object], dict[str, int]]:
    blocks = {name: value for name, value in config.items() if name.isupper()}
    return blocks, {name: value for name, value in config.items() if name not in blocks}


def _matching() -> list[Variant]:
    module = _module("match_cosine")
    halves = (("p_rows", "*fp16"), ("p_columns", "*fp16"))
    hopper = {"capabilities": (90,), "wgmma": True}
    variants = []
    for way, widths, registers, more in (
        ("packed", (32, 64), 255, {"types": halves, "wgmma": True}),
        ("resident", (32, 192, 384, module.RESIDENT_WIDTH), 255, {"types": halves, **hopper}),
        ("exact", (32,), 255, {"absent": ("p_scale",)}),
    ):
        for width in widths:
            constants, options = _split(module.configuration(way, width))
            variants.append(Variant("match_cosine", "match_kernel", registers, constants, options, **more))
    constants, options = _split(module.RANK)
    for top_k in (1, 5, 16):
        slots = {"TOP_K": top_k, "SLOTS": triton.next_power_of_2(top_k)}
        variants.append(Variant("match_cosine", "rank_kernel", 192, {**constants, **slots}, options))
    constants, options = _split(module.ROWS)
    for dtype, way, absent in (("*fp16", "resident", ()), ("*bf16", "packed", ("p_points",)), ("*fp32", "exact", ())):
        slots = {**constants, "SLOTS": module.WAYS[way]["SLOTS"]}
        types = (("p_descriptors", dtype), ("p_units", "*fp32" if way == "exact" else "*fp16"))
        variants.append(Variant("match_cosine", "settle_kernel", 160, slots, options, types, absent))
        variants.append(Variant("match_cosine", "unit_kernel", 104, constants, options, types))
    return variants


def _warping() -> list[Variant]:
    module = _module("warp_bilinear")
    variants = []
    for shared, zeros, resize, affine, mask in (
        (True, False, False, False, False),
        (True, False, True, True, True),
        (False, True, False, False, False),
        (False, True, True, True, True),
    ):
        flags = {"SHARED": shared, "ZEROS": zeros, "RESIZE": resize, "AFFINE": affine, "MASK": mask}
        absent = tuple(name for name, there in (("p_affine", affine), ("p_mask", mask)) if not there)
        constants, options = {**flags, "BLOCK": module.BLOCK}, {"num_warps": module.WARPS}
        variants.append(Variant("warp_bilinear", "warp_kernel", 56, constants, options, absent=absent))
        for fixed in (True, False):
            bits = {"FIXED": fixed, "BITS": 40 if fixed else 0}
            backward = {**constants, **bits, "GRAD_IMAGE": True, "GRAD_POINTS": True}
            types = (("p_grad_image", "*i64"), ("p_scale", "*fp64")) if fixed else ()
            without = absent if fixed else (*absent, "p_peak", "p_scale")
            variants.append(Variant("warp_bilinear", "warp_backward_kernel", 80, backward, options, types, without))
    return variants


def _looking_up() -> list[Variant]:
    module = _module("nearest_canonical")
    variants = []
    for basin in (False, True):
        absent = () if basin else ("p_centres",)
        tile = {"BASIN": basin, "TILE_POINTS": module.TILE_POINTS, "TILE_PIXELS": module.TILE_PIXELS}
        options = {"num_warps": module.TILE_WARPS}
        variants.append(
            Variant("nearest_canonical", "tile_search_kernel", 160 if basin else 104, tile, options, absent=absent)
        )
        bucket = {"BASIN": basin, "LANES": module.BUCKET_LANES}
        options = {"num_warps": module.BUCKET_WARPS}
        variants.append(Variant("nearest_canonical", "bucket_search_kernel", 72, bucket, options, absent=absent))
    return variants


def _normalising() -> list[Variant]:
    module = _module("batch_norm_relu")
    signals = ("p_signal", "p_out", "p_pooled", "p_grad", "p_grad_pooled", "p_grad_signal")
    options = {"num_warps": module.WARPS}
    variants = []
    for pool in (False, True):
        for kind in ("*bf16", "*fp32"):
            types = tuple((name, kind) for name in signals)
            blocks = {**module.tile(64, pool=pool), "POOL": pool}
            for kernel, pooled, registers in (
                ("apply_kernel", "p_pooled", 96),
                ("slopes_kernel", "p_grad_pooled", 168),
                ("spread_kernel", "p_grad_pooled", 168),
            ):
                absent = () if pool else (pooled,)
                variants.append(Variant("batch_norm_relu", kernel, registers, blocks, options, types, absent))
    blocks = module.tile(64, pool=False)
    types = tuple((name, "*bf16") for name in signals)
    variants.append(Variant("batch_norm_relu", "moments_kernel", 128, blocks, options, types))
    variants += [
        Variant("batch_norm_relu", kernel, 128, module.SETTLE, options, types)
        for kernel in ("settle_kernel", "settle_slopes_kernel")
    ]
    return variants


def _joining() -> list[Variant]:
    module = _module("upconv_concat")
    variants = []
    blocks, options = module.tile(64), {"num_warps": module.WARPS}
    for kind in ("*bf16", "*fp32"):
        types = tuple((name, kind) for name in ("p_joined", "p_signal", "p_grad_made", "p_grad"))
        for made in (False, True):
            constants = {**blocks, "MADE": made}
            absent = () if made else ("p_bias",)
            variants.append(Variant("upconv_concat", "place_kernel", 96, constants, options, types, absent))
        variants.append(Variant("upconv_concat", "collect_kernel", 128, blocks, options, types))
    return variants


def _convolving() -> list[Variant]:
    module = _module("thin_conv")
    options, most = {"num_warps": module.WARPS}, module.STEM_REGISTERS
    variants = []
    for kind, size in (("*bf16", 2), ("*fp32", 4)):
        types = tuple((name, kind) for name in ("p_out", "p_grad", "p_signal", "p_grad_signal"))
        blocks = module.stem_tile(3, 32, module.STEM_BYTES // size)
        variants.append(Variant("thin_conv", "stem_kernel", most, blocks, {**options, "maxnreg": most}, types))
        bytes_of, warps = module.STEM_SUMS[size]
        blocks = module.stem_tile(3, 32, bytes_of // size)
        variants.append(
            Variant("thin_conv", "stem_backward_kernel", most, blocks, {"num_warps": warps, "maxnreg": most}, types)
        )
        field = (*types[:1], *types[2:])
        blocks = module.head_tile(32)
        variants.append(Variant("thin_conv", "head_kernel", 128, {**blocks, "OUTS": 2}, options, field))
        variants.append(Variant("thin_conv", "head_backward_kernel", 168, {**blocks, "BLOCK_OUT": 2}, options, field))
    blocks = module.thin_tile(32, 32)
    types = (("p_signal", "*bf16"), ("p_grad", "*bf16"))
    variants.append(
        Variant("thin_conv", "thin_backward_kernel", 232, blocks, {"num_warps": module.THIN_WARPS}, types, wgmma=True)
    )
    return variants


def _others() -> list[Variant]:
    module = _module("contrast_points")
    blocks = {"BLOCK_ROWS": module.BLOCK_ROWS, "BLOCK_COLUMNS": module.BLOCK_COLUMNS}
    variants = [Variant("contrast_points", "contrast_kernel", 128, blocks, {"num_warps": module.WARPS})]
    module = _module("splat_points")
    for over in (False, True):
        constants = {"OVER": over, "BLOCK_H": module.BLOCK_H, "BLOCK_W": module.BLOCK_W}
        variants.append(Variant("splat_points", "splat_kernel", 88, constants, {"num_warps": module.WARPS}))
    return variants


@cache
def variants() -> tuple[Variant, ...]:
    return (*_matching(), *_warping(), *_looking_up(), *_normalising(), *_joining(), *_convolving(), *_others())


def compile_variant(variant: Variant, capability: int):
    """Return the compiled kernel, pointers and descriptors' width known to be multiples of 16, as in a launch."""
    kernel = getattr(_module(variant.operation), variant.kernel)
    constants = {**variant.constants, **dict.fromkeys(variant.absent)}
    signature, aligned = {}, {}
    for position, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        if name.startswith("p_"):
            default = POINTERS.get(variant.operation, {}).get(name, "*fp32")
            signature[name] = dict(variant.types).get(name, default)
        else:
            signature[name] = "fp32" if name in FLOATS else "i32"
        if name.startswith("p_") or (name == "width" and variant.operation == "match_cosine"):
            aligned[(position,)] = [["tt.divisibility", 16]]
    options = {"enable_fp_fusion": True, **variant.options}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def run_tool(name: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / name, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("variant", "capability"),
    [
        pytest.param(variant, capability, id=f"{variant}-{capability}")
        for variant in variants()
        for capability in variant.capabilities
    ],
)
def test_a_kernel_compiles_within_its_registers(tmp_path, variant, capability):
    compiled = compile_variant(variant, capability)
    assert compiled.metadata.shared <= SHARED[capability]
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    usage = run_tool("cuobjdump", "--dump-resource-usage", str(cubin))
    resources = {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", usage)}
    assert resources["STACK"] == resources["LOCAL"] == 0, f"spills: {usage}"
    assert resources["REG"] <= variant.registers, f"{resources['REG']} registers, {variant.registers} allowed"
    if variant.wgmma and capability == 90:
        assert "HGMMA" in run_tool("nvdisasm", str(cubin)), "no warp-group matrix instruction"


def test_every_kernel_is_compiled():
    compiled = {(variant.operation, variant.kernel) for variant in variants()}
    for operation in sorted({operation for operation, _ in compiled}):
        defined = {name for name in vars(_module(operation)) if name.endswith("_kernel")}
        assert defined == {kernel for owner, kernel in compiled if owner == operation}
    assert len({operation for operation, _ in compiled}) == 8


def test_a_spill_would_show(tmp_path):
    matching = variants()[0]
    starved = matching._replace(options={**matching.options, "maxnreg": 64})
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compile_variant(starved, 80).asm["cubin"])
    assert not re.search(r"STACK:0\b", run_tool("cuobjdump", "--dump-resource-usage", str(cubin)))
