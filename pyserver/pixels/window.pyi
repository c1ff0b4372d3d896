from typing import Any

import numpy as np
from numpy.typing import NDArray

LINEAR: int
LINEAR_EXACT: int
SIGMOID: int

def to_8bit(
    pixels: NDArray[Any],
    out: NDArray[np.uint8],
    slope: float,
    intercept: float,
    center: float,
    width: float,
    function: int = 0,
    invert: bool = False,
) -> None: ...
def value_range(pixels: NDArray[Any]) -> tuple[float, float]: ...
