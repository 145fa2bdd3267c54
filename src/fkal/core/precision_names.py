"""Names of what passes through a network compute in. Imports no torch."""

from typing import Literal

Precision = Literal["float32", "tf32", "mixed", "bfloat16", "float16"]
"""`float32`: every product in float32. `tf32`: products of a GPU in TF32, 10 bits of mantissa. `mixed`: autocast to
`bfloat16` where the device has it, else to `float16`. Nothing set: as torch has it, float32 but for a GPU's
convolutions, which are in TF32."""
