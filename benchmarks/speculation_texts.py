"""What the benchmark of speculation asks for: editing and summarising given texts, and questions.

The texts were written for it. An edit's reference is the text as it was given, as a client that
edits a file would send it for a prediction of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

HARBOUR = """\
The harbour of Lindholm was built in 1874, when the railway from the coal fields reached the \
coast. For forty years nearly all coal of the province was loaded here, and the town grew from a \
fishing village of 300 people to a city of 21,000. The first crane was powered by steam and \
could lift four tons; it stood until 1931 and its foundation can still be seen next to the \
customs house. After the war the coal trade moved to the deeper port of Westerby, and the \
harbour was used for timber, grain and, since 1988, for ferries. Today two ferry lines carry \
640,000 passengers a year to the islands."""
SHOP = """\
Dear Ms. Keller, thank you for your order of 12 March. We have sent two of the three lamps that \
you asked for today, and they should reach you on Friday. The third lamp, a blue desk lamp with \
a brass foot, is out of stock at the moment; the factory will deliver new ones in the first week \
of April. If you would rather not wait, we can send you the green one at once, which has the \
same size and costs four euros less. Please tell us which you prefer. The invoice for the two \
lamps is in the parcel, and you can pay it within thirty days. Kind regards, Tomas Brandt, \
Brandt Lamps."""
BEES = """\
Honey bees tell each other where flowers are by dancing. A bee that has found a good place \
returns to the hive and runs in a straight line over the comb while shaking its body, then \
circles back and does it again. The direction of the straight run, compared with the vertical, \
is the direction of the flowers compared with the sun. The length of the run shows the distance: \
one second stands for about one kilometre. Other bees follow the dancer, feel its movements and \
smell the scent of the flowers. After a few rounds they fly off and find the place, even if they \
have never been there."""
PROGRAM = """\
def load_users(path):
    users = {}
    with open(path) as handle:
        for line in handle:
            name, email, age = line.strip().split(",")
            users[name] = {"email": email, "age": int(age)}
    return users


def find_adults(users):
    result = []
    for name, user in users.items():
        if user["age"] >= 18:
            result.append((name, user["email"]))
    return sorted(result)
"""
TEXTS = (HARBOUR, SHOP, BEES)
NEVER_BELOW = 0.97


@dataclass(frozen=True)
class Task:
    """One question to the model; `reference` is what the answer is expected to be like."""

    question: str
    reference: str = ""


@dataclass(frozen=True)
class Kind:
    """Tasks that are measured together; speeds are throughput with guesses over that without."""

    name: str
    tasks: tuple[Task, ...]
    target: float  # of one sequence; several share the reading of the weights already
    temperature: float = 0.0

    def target_of(self, num_seqs: int) -> float:
        """Give what so many sequences have to reach."""
        return self.target if num_seqs == 1 else NEVER_BELOW


def _misspelt(text: str) -> str:
    return text.replace("which", "wich").replace("their", "thier").replace("until", "untill")


def _edits() -> tuple[Task, ...]:
    fix = "Correct the spelling mistakes in this text and write the whole text again:\n\n"
    rename = "Rename the function find_adults to list_adults and write the whole program again:"
    return (
        *(Task(fix + _misspelt(text), _misspelt(text)) for text in TEXTS),
        Task(f"{rename}\n\n```python\n{PROGRAM}```", f"```python\n{PROGRAM}```"),
    )


EDITS = _edits()
SUMMARIES = tuple(
    Task(f"{wish}:\n\n{text}")
    for wish, text in (
        ("Summarize the following text", HARBOUR),
        ("Summarize the following letter", SHOP),
        ("Summarize the following text", BEES),
        ("List the most important facts of this text as bullet points", HARBOUR),
    )
)
QUESTIONS = (
    Task("Write a short story about a fox who wants to learn to swim."),
    Task("Explain how a car engine works."),
    Task("Why is the sky blue? Explain it to a child."),
    Task("Write a letter to my landlord about a broken heater."),
)
KINDS = (
    Kind("edit", tuple(Task(task.question) for task in EDITS), 1.5),
    Kind("edit, reference given", EDITS, 1.5),
    Kind("summarise", SUMMARIES, 1.5),
    Kind("ordinary", QUESTIONS, NEVER_BELOW),
    Kind("ordinary, sampled", QUESTIONS, NEVER_BELOW, 1.0),
)
