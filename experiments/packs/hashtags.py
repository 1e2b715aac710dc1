"""How people tag the demo's pictures: coarse, in synonyms, often wrong, often not at all."""

from collections.abc import Mapping

import numpy as np

# What people talk about: kinds of things, moods and kinds of places, never a shape, texture or place itself.
# The words of a topic are synonyms, the first the most common.
THINGS = {
    "cat fish": "animal pet cute",
    "flower tree": "plant garden bloom",
    "car boat": "ride drive roadtrip",
    "house castle": "home architecture building",
}
MOODS = {
    "warm": "fire hot summer",
    "cool": "blue chill winter",
    "pastel": "soft candy dreamy",
    "dark": "moody gothic noir",
}
PLACES = {
    "beach lake": "water swim vacation",
    "forest meadow": "green nature outdoors",
    "skyline bricks": "city urban street",
    "mountains dunes": "travel adventure wanderlust",
}
CHATTER = (
    "love tbt instagood photooftheday happy follow picoftheday like4like art me selfie fun friends repost "
    "nofilter weekend amazing life beautiful style smile family instadaily photography monday memories party "
    "goodvibes music foodie fitness fashion inspiration vibes blessed throwback hello lucky mylife "
    "dailyphoto"
)

SILENT, SAID, WRONG, CHATTER_RATE = 0.03, 0.9, 0.25, 0.5


def hashtags(random: np.random.Generator, topics: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The tags of one picture or clip, without ``#``, in the order in which they were typed.

    Of each topic it is tagged with probability SAID, and then wrongly, with a word of another value, with
    probability WRONG; about CHATTER_RATE words of a long tail say nothing about it.

    Args:
        random: of this picture.
        topics: what is to be seen of each topic, and the topic: words by the things that they are said of.
    """
    if random.random() < SILENT:
        return []
    tags = []
    for truth, topic in topics.items():
        if random.random() < SAID:
            wrong = random.random() < WRONG
            kinds = [words for members, words in topic.items() if (truth in members.split()) != wrong]
            tags.append(_pick(random, str(random.choice(kinds)).split()))
    tags += [_pick(random, CHATTER.split()) for _ in range(random.poisson(CHATTER_RATE))]
    return [str(tag) for tag in random.permutation(list(dict.fromkeys(tags)))]


def _pick(random: np.random.Generator, words: list[str]) -> str:
    """A word, the n-th with a weight of 1/n (Zipf)."""
    weights = 1 / np.arange(1, len(words) + 1)
    return str(random.choice(words, p=weights / weights.sum()))
