"""Texts of an exact length in tokens, from a seed: for prompts that nobody has computed before.

A text is words in random order, cut where the tokenizer has counted enough; it is taken only if it
has that length again when read as a server will. Refuses a tokenizer with which that never works.
"""

from __future__ import annotations

import random

from outrider.text.prompt import PromptEncoder

MAX_TRIES = 100
WORD_TEXT = """
a about above across after again all almost along also always among and animal another answer any
apple are around as ask at away back be bear because bed been before began behind below best
better between big bird black blue boat body book both box boy bread bring brother brown build but
by call came can car care carry cat chair child city clean clear close cloud cold color come cook
corn could country cover cross cut dark day deep did different do does dog done door down draw
dream dress drink drive dry each ear early earth east eat egg end enough even evening ever every
eye face fall family far farm fast father feel feet few field fill find fire first fish five floor
flower fly follow food foot for forest found four friend from front full game garden gave get girl
give glass go gold good grass gray great green ground group grow had half hand happy hard has hat
have he head hear heart heat help her here high hill his hold home horse hot hour house how
hundred ice idea if in inside into is island it just keep kind king knew know lake land large last
late laugh leaf learn leave left leg less letter life light like line list little live long look
lost loud love low made make man many map market may me meat men middle milk mind minute money
month moon more morning most mother mountain mouse mouth move much music must my name near never
new next night nine no north not note now number of off often old on once one only open or other
our out over own page paint paper part party pass past people person picture piece place plan
plant play point pond poor pull push put queen quick quiet rain ran read ready red rest rich ride
right ring river road rock room round run salt same sand saw say school sea second see seed seem
seen sell send seven shade shape she sheep ship shoe shop short should show side sign silver sing
sister sit six skin sky sleep slow small smile snow so soft some song soon sound south space speak
spring square stand star start stay step still stone stop store story street strong such sugar
summer sun sure table take talk tall teach tell ten than that the their them then there these they
thing think this those thought three through time to today together told too took top town tree
true try turn two under until up upon us use valley very voice walk wall want warm was wash watch
water way we wear week well went were west what wheel when where which while white who whole why
wide wild will wind window winter wish with without woman wood word work world would write year
yellow yes yet you young your
"""
WORDS = WORD_TEXT.split()


class TextMaker:
    """Makes prompts for one model."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder = encoder

    def make(self, num_tokens: int, rng: random.Random, beginning: str = "") -> str:
        """Give a text of `num_tokens` tokens, the model's own prefix included."""
        for _ in range(MAX_TRIES):
            text = self._cut(num_tokens, rng, beginning)
            if text.startswith(beginning) and self.count(text) == num_tokens:
                return text
        raise SystemExit(
            f"no text of {num_tokens} tokens could be made; choose a model whose tokenizer reads "
            "plain words"
        )

    def count(self, text: str) -> int:
        """Count the tokens that a server makes of a text."""
        return len(self._encoder.text(text))

    def _cut(self, num_tokens: int, rng: random.Random, beginning: str) -> str:
        num_prefix = len(self._encoder.text(""))
        words = rng.choices(WORDS, k=num_tokens)  # a word is at least a token
        text = " ".join([beginning, *words] if beginning else words)
        token_ids = self._encoder.text(text)[num_prefix:num_tokens]
        return self._encoder.tokenizer().decode(token_ids)
