"""Images whose names are what a file system takes; only what is not UTF-8 is refused."""

from collections.abc import Iterator

from broken_images import RGB, Picture, encode

SCRIPTS = (
    "雪の山",
    "снег",
    "χιόνι",
    "ثلج",
    "שלג",
    "बर्फ",
    "눈",
    "หิมะ",
    "ძერა",
    "🏔️❄️",
    "ﬁ",
    "e\u0301",
    "\u202egpj",
)
SIGNS = ("-rf", "~", "$HOME", "%s %d", "{0}", "${data.root}", "a#t=1,2", "a\\b", "a'b\"c", "*?[!]", "a;b|c&d")
SPACES = (" ", "a b ", "a\nb", "a\rb", "a\tb", "\x1b[31mred", "\x7f")
OTHERS = ("a,b", "con", "x" * 246, "é" * 123, "\u3042" * 82)  # 250 bytes with the ending


def named() -> Iterator[Picture]:
    """A good and a damaged image of each name."""
    content = encode(RGB, "PNG")
    for name in (*SCRIPTS, *SIGNS, *SPACES, *OTHERS):
        yield Picture(f"{name}.png", content, RGB)
        yield Picture(f"{name}.jpg", b"damaged", broken=True)
    yield Picture(b"caf\xe9.png".decode("utf-8", "surrogateescape"), content, broken=True)
