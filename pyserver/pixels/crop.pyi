from typing import Any

from numpy.typing import NDArray

def rectangle(pixels: NDArray[Any], top: int, left: int, out: NDArray[Any]) -> None: ...
