"""More than 2,000 texts on which token ids are compared with Meta's own tokenizer.

Sentences in the twelve languages of Llama 4, and everything that tokenizers stumble over: marks,
decomposed letters, emoji, code, runs of spaces, contractions, names of control tokens. The texts
depend on nothing but this file: the random numbers are its own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

SENTENCES = {
    "en": (
        "The lighthouse keeper wrote every evening's weather into a thick blue book.",
        "It's 7 o'clock; they'd rather wait, but we'll leave unless you've changed your mind!",
        "Prices rose by 3.75% in 2024, from $1,299.00 to $1,347.71 (before tax).",
        "“Don't,” she said — and didn't. WE'LL SEE WHO'S RIGHT, I'M SURE.",
    ),
    "fr": (
        "Aujourd'hui, l'été s'achève : les élèves rentrent à l'école où l'on joue à cœur joie.",
        "Qu'est-ce que c'est ? « Rien du tout », répondit-il à voix basse.",
        "Le garçon naïf a mangé 1 234,56 g de crème brûlée près de l'île.",
    ),
    "de": (
        "Der Fußgängerübergang in der Königstraße wurde größtenteils erneuert.",
        "Übrigens: Ärger gibt's öfter, als man's glaubt – nicht wahr?",
        "Donaudampfschifffahrtsgesellschaftskapitäne verdienten 1.234,56 € im Monat.",
    ),
    "es": (
        "¿Dónde está el niño? ¡Mañana cumplirá diez años y sueña con un pingüino!",
        "El camión número 42 llegó tarde porque llovía muchísimo.",
        "El señor Núñez compró 3,5 kilos de naranjas en la avenida 9 de Julio.",
    ),
    "pt": (
        "A avó não gostava do pão de ontem, mas o irmão comeu três pedaços.",
        "Amanhã às 18h30 haverá uma reunião sobre a produção de açúcar.",
        "Você já viu o pôr do sol lá do alto da montanha? É lindíssimo!",
    ),
    "it": (
        "Perché l'università è così lontana dalla città? Non c'è più l'autobus.",
        "Quest'anno gli alberi d'ulivo hanno dato pochissimi frutti.",
        "Sarà vero che 1.000.000 di lire valevano 516,46 euro?",
    ),
    "id": (
        "Anak-anak bermain layang-layang di lapangan dekat rumah neneknya.",
        "Harga beras naik menjadi Rp15.500 per kilogram sejak hari Senin.",
        "Mempertanggungjawabkan keputusan itu tidaklah semudah membalikkan telapak tangan.",
    ),
    "tl": (
        "Nagluluto ang nanay ng adobo habang naglalaro ang mga bata sa bakuran.",
        "Kumusta ka? Mabuti naman ako, salamat; ika'y maghintay muna rito.",
        "Pinakamagandang tanawin ang makikita mo sa tuktok ng bundok.",
    ),
    "vi": (
        "Những đứa trẻ đang thả diều trên cánh đồng lúa chín vàng.",
        "Hôm nay trời mưa to quá, chúng ta ở nhà uống trà nhé?",
        "Giá một bát phở bò là 45.000 đồng, rẻ hơn năm ngoái một chút.",
    ),
    "hi": (
        "नमस्ते दुनिया! बच्चे मैदान में क्रिकेट खेल रहे हैं।",
        "मुझे कल सुबह साढ़े सात बजे की रेलगाड़ी से दिल्ली जाना है।",
        "क्या आपने ज़्यादा पढ़ाई की? हाँ, मैंने १२३४ पन्ने पढ़े।",
        "विद्यार्थियों ने विश्वविद्यालय में संस्कृत‌ और फ़्रेंच सीखी।",
    ),
    "th": (
        "สวัสดีครับ วันนี้อากาศดีมาก เราไปเที่ยวทะเลกันไหม",
        "ราคากาแฟแก้วละ ๖๕ บาท แพงกว่าปีที่แล้วนิดหน่อย",
        "เด็กๆ กำลังเล่นว่าวอยู่ในทุ่งนาใกล้บ้านคุณยาย",
        "ผู้ใหญ่บ้านกล่าวว่าน้ำท่วมครั้งนี้ร้ายแรงที่สุดในรอบ 30 ปี",
    ),
    "ar": (
        "يكتب حارس المنارة حالة الطقس كل مساء في دفتر أزرق كبير.",
        "السَّلَامُ عَلَيْكُمْ وَرَحْمَةُ اللّٰهِ، كَيْفَ حَالُكَ اليَوْمَ؟",
        "بلغ سعر الكيلوغرام ١٢٫٥ ريالًا، أي ما يعادل 3.33 دولارات.",
        "الكِتَابُ عَلَى الطَّاوِلَةِ وَالقَلَمُ فِي الحَقِيبَةِ.",
    ),
    "other": (
        "Съешь же ещё этих мягких французских булок, МирТест да выпей чаю.",
        "私は毎朝七時に起きて、ｶﾀｶﾅと漢字を勉強します。",
        "今天天气很好，我们去公园散步吧！价格是￥128.50。",
        "저는 매일 아침 일곱 시에 일어나서 커피를 마셔요.",
        "Ο φαροφύλακας έγραφε κάθε βράδυ τον καιρό σε ένα μπλε βιβλίο.",
        "הילדים משחקים בַּחָצֵר ליד הבית של סבתא.",
        "ქართული ენა ძალიან ლამაზია; Հայերենը նույնպես։",
        "ಮಕ್ಕಳು ಆಟವಾಡುತ್ತಿದ್ದಾರೆ। குழந்தைகள் விளையாடுகிறார்கள். పిల్లలు ఆడుతున్నారు.",
        "ශ්‍රී ලංකාව ලස්සනයි। မြန်မာစာ လှပါတယ်။ ភាសាខ្មែរ ស្អាតណាស់។ བོད་སྐད་ཡག་པོ་འདུག",
        "አማርኛ ቆንጆ ቋንቋ ነው። Yorùbá dára púpọ̀; ʻŌlelo Hawaiʻi.",
    ),
}
CODE = (
    "def area(r: float) -> float:\n    return 3.14159 * r ** 2  # πr²\n\n\n"
    'print(f"{area(2):.3f}")\n',
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];  // dot product\n}\r\n",
    '{"name": "get_weather", "parameters": {"city": "São Paulo", "days": [1, 2, 3]}}',
    "<div class=\"a-b_c\">&nbsp;<a href='https://example.org/x?y=1&z=%20#top'>link</a></div>",
    "SELECT u.id, COUNT(*) FROM users AS u WHERE u.age >= 18 GROUP BY u.id HAVING COUNT(*)>1;",
    "$ curl -sS http://127.0.0.1:8000/v1/models | jq '.data[0].id' >> /var/log/out.txt 2>&1",
    "\\begin{equation}\n  \\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}\n\\end{equation}",
    "fn main() -> Result<(), Box<dyn Error>> { let x = vec![0u8; 1_000]; Ok(()) }",
    "a//b\n///c\n\n\n  //d\r\n/*e*/ -->> <!--x--> ==== **bold** __init__ ~~no~~ `code`",
    '[get_weather(city="Paris", unit=\'c\'), search(query="it\'s", limit=5)]',
    "class ÄÖÜTest_camelCaseHTTPServer2: pass\nXMLHttpRequest iPhone15ProMax snake_case_name",
)
EMOJI = (
    "👍", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷🇯🇵", "1️⃣2️⃣#️⃣", "❤️‍🔥", "🧑🏿‍🚀", "☺︎☺️", "😀😃😄 😁",
    "👨🏻‍❤️‍💋‍👨🏿", "🫠🫡🫶🏼", "©️®™", "▶️⏸", "🀄🃏", "(╯°□°)╯︵ ┻━┻", "¯\\_(ツ)_/¯",
)  # fmt: skip
NUMBERS = (
    "0", "12", "123", "1234", "12345", "123456", "1234567", "3.14159265358979", "1e-10", "0x1F",
    "1,000,000.00", "2024-12-31T23:59:59.999Z", "+49 (0)30 1234-5678", "½ ¾ ²³ ₁₂ Ⅷ ⅻ ①②",
    "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "๐๑๒๓๔๕๖๗๘๙", "１２３４５", "𝟏𝟐𝟑𝟒", "一二三四", "1st2nd3rd",
    "a1b22c333d4444",
)  # fmt: skip
CONTRACTIONS = ("s", "t", "re", "ve", "m", "ll", "d")
CONTROL_NAMES = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>",
    "<|eom|>", "<|step|>", "<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>",
    "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>", "<|image|>",
    "<|patch|>", "<|reasoning_thinking_start|>", "<|reserved_special_token_5|>", "<|eot_id|>",
    "<|endoftext|>", "<s>", "</s>", "[INST]", "<|fim_prefix|>",
)  # fmt: skip
SPACES = (
    " ", " ", " ", "  ", "   ", "\n", "\n", "\n\n", "\r\n", "\r", "\t", "\u00a0", "\u3000",
    "\u2028", "\u2003", "\x0b", "\x0c", "\x1c", "\x85", "\u200b", "\ufeff", "\u180e", "/", "//",
    "!", "a", "Z", "é", "1", ".", "...",
)  # fmt: skip
# First and last code point of the blocks that random letters are drawn from.
BLOCKS = (
    (0x20, 0x7E), (0x80, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x531, 0x6FF), (0x900, 0xDFF),
    (0xE00, 0xEFF), (0xF00, 0x109F), (0x10A0, 0x139F), (0x1780, 0x18AF), (0x1E00, 0x218F),
    (0x2190, 0x27BF), (0x2C00, 0x2DFF), (0x3000, 0x33FF), (0x4E00, 0x9FFF), (0xA640, 0xABFF),
    (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFFFD), (0x10000, 0x1047F), (0x1D400, 0x1D7FF),
    (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0100, 0xE01EF),
)  # fmt: skip
MAX_RUN_CHARS, MAX_PIECE_CHARS = 25_000, 400_000  # where Meta's tokenizer cuts


class Dice:
    """Random numbers that no library can change: Knuth's linear congruential generator."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def roll(self, bound: int) -> int:
        """Give a number from 0 to `bound` - 1."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % bound

    def pick(self, items: Sequence[str]) -> str:
        """Give one of some texts."""
        return items[self.roll(len(items))]


def texts() -> list[str]:
    """Give all texts in a fixed order; the long ones come last."""
    made = [*_sentences(), *_small_cases(), *_cut_texts(), *_spaces(), *_letters(), *_long_texts()]
    return list(dict.fromkeys(made))


def _sentences() -> Iterator[str]:
    for group in (*SENTENCES.values(), CODE):
        for text in group:
            yield text
            for form in ("NFC", "NFD", "NFKC", "NFKD"):
                yield unicodedata.normalize(form, text)
            yield from (text.upper(), text.lower(), text.title(), text.swapcase())
            yield from (f" {text}", f"{text}\n", f"{text}\n\n  ", text.replace(" ", "\u00a0"))
        yield "\n".join(group)
    yield " ".join(text for group in SENTENCES.values() for text in group)


def _small_cases() -> Iterator[str]:
    yield from ("", " ", "\n", "a", "\x00", "\ufffd", "\U0010ffff", "e\u0301", "\u0301", "\u200d")
    for text in (*EMOJI, *NUMBERS):
        yield from (text, f"a{text}b", f" {text} {text}\n", text * 5)
    for ending in CONTRACTIONS:
        for form in (ending, ending.upper(), ending.title(), f"{ending}x", f" {ending}"):
            for stem in ("it", "IT", "It", "7", "?", "été", "你", "мир"):
                yield f"{stem}'{form}"
            yield from (f"it’{form}", f"it''{form}", f"'{form}", f"it' {form}")
    yield from ("it'ſ", "IT'ſ", "a'K", "x'ﬁ", "'Ll", "'lL", "don'T'Ve", "l'Été", "d'L'S")
    for name in CONTROL_NAMES:
        yield from (name, f"a{name}b", f" {name}\n\n", name[:-1], name * 3, name.upper())
    yield "".join(CONTROL_NAMES)


def _cut_texts() -> Iterator[str]:
    """Cut pieces out of all sentences at any place, also between a letter and its marks."""
    dice = Dice(1)
    whole = " ".join(text for group in (*SENTENCES.values(), CODE, EMOJI) for text in group)
    for form in ("NFC", "NFD"):
        source = unicodedata.normalize(form, whole)
        for _ in range(250):
            begin = dice.roll(len(source))
            yield source[begin : begin + 1 + dice.roll(60)]


def _spaces() -> Iterator[str]:
    dice = Dice(2)
    for _ in range(400):
        yield "".join(dice.pick(SPACES) for _ in range(1 + dice.roll(14)))


def _letters() -> Iterator[str]:
    dice = Dice(3)
    for index in range(600):
        chars = []
        for _ in range(1 + dice.roll(20)):
            # Half of the texts keep to one block, as real ones do.
            block = BLOCKS[(index if index % 2 else dice.roll(len(BLOCKS))) % len(BLOCKS)]
            char = chr(block[0] + dice.roll(block[1] - block[0] + 1))
            # Libraries agree on what was assigned long ago; Python keeps that table for good.
            if unicodedata.ucd_3_2_0.category(char) != "Cn":
                chars.append(char)
        yield "".join(chars)


def _long_texts() -> Iterator[str]:
    run, piece = MAX_RUN_CHARS, MAX_PIECE_CHARS
    yield from (" " * run, " " * (run + 1), f"a{' ' * (2 * run + 7)}b", "\n" * (run + 1))
    yield from ("x" * 30_000, "é" * (run + 3), "7" * 30_000, " \n" * 15_000, "/" * 26_000)
    wide_spaces = "\u3000" * run
    yield f"{'ab ' * 5}{'z' * (run - 1)} {'z' * (run + 1)}\n{wide_spaces}\t{'y' * 10}"
    words = "The keeper's 1234 lamps, क्षेत्र und Größe.\n\n  "
    yield (words * (piece // len(words) + 2))[: piece + 5_000]
    yield f"{'word ' * (piece // 5 - 1)}wo{' ' * (run + 9)}{'v' * (run + 9)}"
