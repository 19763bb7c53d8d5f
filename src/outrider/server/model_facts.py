"""What was published of the models that are recognised by their names.

Our own words, and figures with their source; where nothing was published there is nothing here.
Prices, contexts and capabilities are what this server offers and come from the catalogue instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from outrider.gateway.known_ids import recognised
from outrider.model_cards import ModelFacts, Score

_LLAMA_4_CARD = "Meta, Llama 4 model card, 2025-04-05"
_LLAMA_4_LICENSE = "https://github.com/meta-llama/llama-models/blob/main/models/llama4/LICENSE"
_LANGUAGES = (
    "Arabic", "English", "French", "German", "Hindi", "Indonesian", "Italian", "Portuguese",
    "Spanish", "Tagalog", "Thai", "Vietnamese",
)  # fmt: skip
_INSTRUCT = "instruction-tuned, bf16"
_BASE = "pre-trained, bf16"


def _scores(setting: str, **published: float) -> tuple[Score, ...]:
    return tuple(
        Score(benchmark=_NAMES[name], score=score, setting=f"{setting}{_ASKED.get(name, '')}",
              source=_LLAMA_4_CARD)
        for name, score in published.items()
    )  # fmt: skip


_NAMES = {
    "mmlu": "MMLU",
    "mmlu_pro": "MMLU-Pro",
    "gpqa": "GPQA Diamond",
    "live_code": "LiveCodeBench",
    "math": "MATH",
    "mbpp": "MBPP",
    "mgsm": "MGSM",
    "tydi": "TydiQA",
    "mmmu": "MMMU",
    "mmmu_pro": "MMMU-Pro",
    "math_vista": "MathVista",
    "chart_qa": "ChartQA",
    "doc_vqa": "DocVQA",
}
_ASKED = {
    "mmlu": ", 5 examples",
    "math": ", 4 examples",
    "mbpp": ", 3 examples",
    "tydi": ", 1 example",
    "live_code": ", tasks of 2024-10 to 2025-02",
}
_OPEN_WEIGHTS = "Open weights: it runs on your own machines, and at several hosts"
_LONG_TEXT = "Three layers in four look at 8,192 tokens at a time, so long contexts stay cheap"

_FACTS = {
    "llama-4-scout-17b-16e-instruct": ModelFacts(
        title="Llama 4 Scout",
        author="Meta",
        summary=(
            "A mixture of experts that reads text and images and answers in text and code. Of its "
            "109 billion parameters 17 billion work on each token: one shared expert and one of "
            "sixteen. Tuned for conversation, tools and questions about pictures."
        ),
        license="Llama 4 Community License",
        license_url=_LLAMA_4_LICENSE,
        released="2025-04-05",
        hugging_face_id="meta-llama/Llama-4-Scout-17B-16E-Instruct",
        source=_LLAMA_4_CARD,
        knowledge_cutoff="2024-08",
        parameters=109_000_000_000,
        active_parameters=17_000_000_000,
        architecture="Transformer, mixture of 16 experts, text and images fused early",
        trained_context=10_000_000,
        trained_tokens=40_000_000_000_000,
        languages=_LANGUAGES,
        scores=(
            *_scores(_INSTRUCT, mmlu_pro=74.3, gpqa=57.2, live_code=32.8, mgsm=90.6, mmmu=69.4,
                     mmmu_pro=52.2, math_vista=70.7, chart_qa=88.8, doc_vqa=94.4),
            *_scores(_BASE, mmlu=79.6, mmlu_pro=58.2, math=50.3, mbpp=67.8, tydi=31.5),
        ),
        strengths=(
            "Trained for contexts of ten million tokens, more than any host offers",
            _LONG_TEXT,
            "Reads up to five images beside text, charts and documents among them",
            "Computes like a model of 17 billion parameters",
            _OPEN_WEIGHTS,
        ),
        limits=(
            "Below Maverick, its larger sibling, in every published figure for reasoning and code",
            "All 109 billion parameters have to be in memory, although few work at a time",
            "Knows nothing of what happened after August 2024",
            "Tested with five images at most; languages beyond the twelve named are untested",
        ),
    ),
    "llama-4-maverick-17b-128e-instruct": ModelFacts(
        title="Llama 4 Maverick",
        author="Meta",
        summary=(
            "The larger mixture of experts of the Llama 4 family, for text and images. 17 billion "
            "parameters work on each token, as in Scout, but there are 128 experts to choose from."
        ),
        license="Llama 4 Community License",
        license_url=_LLAMA_4_LICENSE,
        released="2025-04-05",
        hugging_face_id="meta-llama/Llama-4-Maverick-17B-128E-Instruct",
        source=_LLAMA_4_CARD,
        knowledge_cutoff="2024-08",
        parameters=400_000_000_000,
        active_parameters=17_000_000_000,
        architecture="Transformer, mixture of 128 experts, text and images fused early",
        trained_context=1_000_000,
        trained_tokens=22_000_000_000_000,
        languages=_LANGUAGES,
        scores=(
            *_scores(_INSTRUCT, mmlu_pro=80.5, gpqa=69.8, live_code=43.4, mgsm=92.3, mmmu=73.4,
                     mmmu_pro=59.6, math_vista=73.7, chart_qa=90.0, doc_vqa=94.4),
            *_scores(_BASE, mmlu=85.5, mmlu_pro=62.9, math=61.2, mbpp=77.6, tydi=31.7),
        ),
        strengths=(
            "The better of the two in reasoning, code and questions about pictures",
            "Computes like a model of 17 billion parameters",
            _OPEN_WEIGHTS,
        ),
        limits=(
            "All 400 billion parameters have to be in memory, although few work at a time",
            "Knows nothing of what happened after August 2024",
        ),
    ),
    "smollm2-135m-instruct": ModelFacts(
        title="SmolLM2 135M Instruct",
        author="Hugging Face",
        summary=(
            "A very small model for conversations in English, which answers at once on any "
            "processor. Good for trying this server out, and for tests."
        ),
        license="Apache-2.0",
        license_url="https://www.apache.org/licenses/LICENSE-2.0",
        released="2024-11-01",
        hugging_face_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        source="Hugging Face, SmolLM2-135M-Instruct model card",
        parameters=135_000_000,
        architecture="Transformer",
        trained_tokens=2_000_000_000_000,
        languages=("English",),
        strengths=("Small enough for every machine", "Answers without waiting", "Free licence"),
        limits=(
            "Makes up facts, and follows instructions only roughly",
            "Understands English only",
            "Reads no images and was not trained to call tools",
        ),
    ),
    "all-minilm-l6-v2": ModelFacts(
        title="all-MiniLM-L6-v2",
        author="sentence-transformers",
        summary=(
            "Turns sentences and short paragraphs into 384 numbers whose nearness is nearness of "
            "meaning: for search, grouping and finding duplicates."
        ),
        license="Apache-2.0",
        license_url="https://www.apache.org/licenses/LICENSE-2.0",
        hugging_face_id="sentence-transformers/all-MiniLM-L6-v2",
        source="sentence-transformers, all-MiniLM-L6-v2 model card",
        parameters=22_700_000,
        architecture="BERT encoder of 6 layers",
        languages=("English",),
        strengths=("Small enough for every machine", "Free licence"),
        limits=("Trained for English", "Made for sentences and paragraphs, not for long documents"),
    ),
}  # fmt: skip


def facts_of(names: Iterable[str]) -> ModelFacts | None:
    """Give what was published of the model that has one of these names."""
    found = (recognised(name, _FACTS) for name in names)
    return next((_FACTS[model] for model in found if model is not None), None)
