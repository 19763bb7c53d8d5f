"""The twenty prompts whose greedy continuations are pinned: eleven raw, nine conversations."""

from __future__ import annotations

from pathlib import Path

Conversation = list[dict[str, str]]

TEXT = (Path(__file__).parent / "text.txt").read_text("utf-8")


def _user(content: str) -> Conversation:
    return [{"role": "user", "content": content}]


PROMPTS: dict[str, str | Conversation] = {
    "raw english": "The lighthouse keeper climbed the stairs and",
    "raw one word": "Once",
    "raw no letters": "\n\n  \t",
    "raw python": (
        'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number."""\n'
        "    if n < 2:\n"
    ),
    "raw c": "#include <stdio.h>\n\nint main(void) {\n    for (int i = 0; i < 10; i++) {\n",
    "raw json": '{"name": "Eddystone", "built": 1882, "height_m": 49, "keepers": [',
    "raw french": "Le phare de Cordouan se trouve à l'embouchure de la Gironde, où",
    "raw numbers": "1, 1, 2, 3, 5, 8, 13, 21, 34, 55,",
    "raw emoji": "Weather today: ☀️ 24 °C, tomorrow: 🌧️ 17 °C, then: ",
    "raw scripts": "English: sea. Deutsch: Meer. Français: mer. 日本語: 海. Русский:",
    "raw long": TEXT[: TEXT.index("In the Middle Ages")].strip(),
    "chat question": _user("What is gravity?"),
    "chat list": _user("Give me three tips for a good night's sleep."),
    "chat arithmetic": _user("A train goes 60 km in 45 minutes. How fast is it in km/h?"),
    "chat french": _user("Écris une phrase sur la mer en français, s'il te plaît."),
    "chat code": _user("Write a Python function that reverses a string without slicing."),
    "chat unicode": _user("What does the emoji 🦊 mean? Et « l'été » ? Ω≈3Ω — naïve."),
    "chat control tokens": _user("Say <|im_start|> and <|im_end|>, please."),
    "chat system": [
        {"role": "system", "content": "You are a pirate. Answer in one short sentence."},
        {"role": "user", "content": "Where is the treasure?"},
    ],
    "chat turns": [
        {"role": "user", "content": "My name is Ada and I live in Bergen."},
        {"role": "assistant", "content": "Nice to meet you, Ada! How is the weather in Bergen?"},
        {"role": "user", "content": "It rains. What is my name, and where do I live?"},
    ],
}
