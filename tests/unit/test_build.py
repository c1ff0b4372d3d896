"""Every native part is built and imports: a wheel made past the build backend lacks the kernels."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted(source.stem for source in (ROOT / "native/pixels").glob("*.pyx"))


def test_sources_are_found() -> None:
    assert KERNELS == ["crop", "downsize", "palette", "planar", "window"]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_compiled(name: str) -> None:
    module = importlib.import_module(f"pyserver.pixels.{name}")
    assert module.__file__ is not None
    assert module.__file__.endswith((".so", ".pyd"))


def test_native_module_imports() -> None:
    assert importlib.import_module("pyserver._native").__name__.endswith("_native")
