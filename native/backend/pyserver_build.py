"""PEP 517 backend: Cython builds the pixel kernels in place, then maturin builds the Rust module.

`maturin build` and `maturin develop` skip this file and would pack a wheel without kernels;
build with `pip`, `python -m build` or `make install`.
"""

from pathlib import Path
from typing import Any

import maturin
from maturin import *


def _build_kernels() -> None:
    from Cython.Build import cythonize  # noqa: PLC0415  present only while building
    from setuptools import Distribution, Extension  # noqa: PLC0415

    sources = sorted(Path("native/pixels").glob("*.pyx"))
    kernels = [
        Extension(f"pyserver.pixels.{s.stem}", [str(s)], extra_compile_args=["-O3"])
        for s in sources
    ]
    modules = cythonize(kernels, build_dir="build", language_level=3)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.inplace = True
    command.ensure_finalized()
    command.run()


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    _build_kernels()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    _build_kernels()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)
