import numpy as np
from numpy.typing import NDArray

def area(pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None: ...
