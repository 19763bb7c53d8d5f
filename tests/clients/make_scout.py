"""Writes a tiny random Llama 4 that sees images; run with the Python that has Outrider."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_llama4 import TinyLlama4, TinyVision, write_hf

write_hf(TinyLlama4(vision=TinyVision()), Path(sys.argv[1]))
