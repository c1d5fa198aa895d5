"""A named implementation runs or fails, never falls back; loading the package loads no Triton."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from asic_flow.kernels.dispatch import load_implementation

OPERATIONS = (
    "batch_norm_relu",
    "contrast_points",
    "match_cosine",
    "nearest_canonical",
    "splat_points",
    "thin_conv",
    "upconv_concat",
    "warp_bilinear",
)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_auto_takes_the_blocked_path_on_the_cpu_and_the_reference_on_an_unknown_device(operation):
    assert load_implementation(operation, "auto", torch.device("cpu")).__name__.endswith(f"{operation}._torch")
    assert load_implementation(operation, "auto", torch.device("meta")).__name__.endswith(f"{operation}.reference")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_auto_takes_triton_on_cuda(operation):
    pytest.importorskip("triton", reason="no Triton on this platform")
    assert load_implementation(operation, "auto", torch.device("cuda")).__name__.endswith(f"{operation}._triton")


def test_a_named_implementation_never_falls_back():
    with pytest.raises(ValueError, match="impl must be auto, triton, torch or reference, got 'fast'"):
        load_implementation("match_cosine", "fast", torch.device("cpu"))
    with pytest.raises(ValueError, match="impl='triton' needs CUDA tensors, got cpu"):
        load_implementation("match_cosine", "triton", torch.device("cpu"))
    with pytest.raises(ValueError, match="impl='torch' is the CPU path, got tensors on cuda"):
        load_implementation("match_cosine", "torch", torch.device("cuda"))


def loaded_modules(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_importing_the_kernels_loads_no_kernel():
    loaded = loaded_modules("import asic_flow.kernels")
    assert not [name for name in loaded if name.startswith("asic_flow.kernels") and name.endswith("._triton")]
    assert "scipy.spatial" not in loaded
    if "triton" in loaded:
        assert "triton" in loaded_modules("import torch"), "torch does not load it, so we did"


def test_the_probe_sees_a_kernel_that_is_loaded():
    pytest.importorskip("triton", reason="no Triton on this platform")
    assert "asic_flow.kernels.splat_points._triton" in loaded_modules("import asic_flow.kernels.splat_points._triton")
