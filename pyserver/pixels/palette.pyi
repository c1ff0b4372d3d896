from typing import Any

import numpy as np
from numpy.typing import NDArray

def expand(
    pixels: NDArray[Any],
    red: NDArray[np.uint16],
    green: NDArray[np.uint16],
    blue: NDArray[np.uint16],
    first_mapped: int,
    entry_bits: int,
    out: NDArray[np.uint8],
) -> None: ...
