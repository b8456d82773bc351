"""What a drawing's label is called in a sentence: one, several, with or without an article; None where it has no name.

Labels are emojibase's, in lower case. A concept that cannot be counted or named in plain words ("keycap: 1", "up!
button") takes no part in compositions; its drawings are still learnt under their labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from recipes.emoji.paint import COLOURS, OTHER_COLOURS
from recipes.emoji.synonyms import SYNONYMS, listed

FACES = ("cat", "dog", "horse", "tiger", "cow", "pig", "mouse", "rabbit", "dragon", "monkey", "wind")
ALONE = listed(
    """
    admission tickets, bacon, badminton, baguette bread, ballet shoes, beach with umbrella, beans, blueberries,
    bookmark tabs, books, bow and arrow, bowling, bread, bridge at night, briefs, bubble tea, bubbles, building
    construction, busts in silhouette, butter, camping, canned food, card index dividers, chains, cherries, cherry
    blossom, chocolate bar, chopsticks, cityscape, cityscape at dusk, clapping hands, clinking beer mugs, clinking
    glasses, confetti, control knobs, cooked rice, cooking, coral, couch and lamp, cricket game, crossed swords,
    curry rice, desert, dna, eyes, fallen leaf, field hockey, film frames, fire, fireworks, flatbread, fog, foggy,
    folded hands, footprints, fork and knife, french fries, garlic, ginger root, glasses, gloves, goggles, grapes,
    green salad, hammer and pick, hammer and wrench, high voltage, hindu temple, hot springs, houses, ice, ice
    cream, ice hockey, japanese dolls, jeans, lacrosse, leaf fluttering in wind, leafy green, linked paperclips,
    lungs, maracas, martial arts uniform, mate, meat on bone, milky way, money with wings, moon viewing ceremony,
    music, musical notes, national park, nesting dolls, night with stars, nut and bolt, oden, open hands, pancakes,
    paw prints, peanuts, performing arts, ping pong, playground slide, popcorn, pouring liquid, prayer beads,
    raising hands, revolving hearts, running shirt, sake, salt, scissors, shaved ice, shopping bags, shorts, skis,
    skull and crossbones, soap, socks, soft ice cream, spaghetti, sparkles, stairs, sunglasses, sunrise, sunrise
    over mountains, sunset, sushi, tennis, thread, two hearts, wedding, woman’s clothes, wood, yarn
    """
)
ONE = listed(
    """
    baguette bread, bow and arrow, chocolate bar, cityscape, couch and lamp, desert, fallen leaf, ginger root, hindu
    temple, martial arts uniform, national park, nut and bolt, playground slide, running shirt, sunrise, sunset,
    wedding
    """
)
PROPER = listed(
    """
    kaaba, map of japan, mount fuji, mrs. claus, mx claus, santa claus, star of david, statue of liberty, t-rex,
    tokyo tower
    """
)
REFUSED = re.compile(
    r"[:\d!“”()#*]|button|o’clock|-thirty|^(on|no|non)[ -]|\bzzz\b|\bgesturing|facing|^(landslide|construction|station"
    r"|star-struck|motorway|metro|light rail|hole|collision|dizzy|dashing away|fight cloud|selfie|writing hand|joker"
    r"|rolling on|exploding head|head shaking|hundred points|thumbs|middle finger|heart exclamation|level slider"
    r"|x-ray|breast-feeding|mx claus|mrs. claus|love letter|e-mail|locked|unlocked|placard|high-speed|bullet train"
    r"|hot springs|bell with slash|muted|speaker |mobile phone with|rock|sweat|heart decoration|hamsa|nazar|moai|memo"
    r"|ox$|ewe$|mate$|deaf|person in suit|kiss|handshake|palms|see-no|hear-no|speak-no|anger|left speech|right anger"
    r"|eye in|low battery|chart|index pointing|backhand|leftwards|rightwards|palm|raised|waving|vulcan|children)"
)
PLURALS = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "goose": "geese", "fish": "fish", "tropical fish": "tropical fish", "blowfish": "blowfish",
    "sheep": "sheep", "deer": "deer", "bison": "bison", "moose": "moose", "squid": "squid", "shrimp": "shrimp",
    "jellyfish": "jellyfish", "leaf": "leaves", "maple leaf": "maple leaves", "knife": "knives", "wolf": "wolves",
    "elf": "elves", "scarf": "scarves", "loaf": "loaves", "thief": "thieves", "octopus": "octopuses", "cactus": "cacti",
    "hippopotamus": "hippos", "rhinoceros": "rhinos", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes",
    "volcano": "volcanoes", "merman": "mermen", "policeman": "policemen", "snowman": "snowmen", "die": "dice",
    "kitchen knife": "kitchen knives", "piece of": "pieces of", "aircraft": "aircraft", "hamburger": "hamburgers",
    "passenger ship": "passenger ships", "fairy": "fairies", "cookie": "cookies", "wrist watch": "wrist watches",
    "salmon": "salmon", "buffalo": "buffalo", "water buffalo": "water buffalo", "mosquito": "mosquitoes",
    "superhero": "superheroes", "dodo": "dodos", "yo-yo": "yo-yos", "flamingo": "flamingos", "ox": "oxen",
}  # fmt: skip
JOINTS = re.compile(r" (with|without|of|in|on|behind|and|over|from|showing|wearing|holding|feeding|getting|taking) ")


@dataclass(frozen=True, slots=True)
class Noun:
    """A name: "red apple". `key` is what combinations are held out by: all names of a thing share it.

    article  whether "a" goes before it
    plural   "" where it cannot be counted
    others   everyday names of the same thing, "~" before one that takes no "a"
    """

    one: str
    plural: str
    article: bool
    key: str
    others: tuple[str, ...] = ()

    def a(self, name: str | None = None, colour: str = "") -> str:
        """ "a pear", "an orange pear", "green grapes"."""
        name = name or self.one
        article = not name.startswith("~") and (self.article or name in self.others)
        phrase = f"{colour} {name.removeprefix('~')}".strip()
        return with_article(phrase) if article else phrase


@cache
def noun(label: str) -> Noun | None:
    """What a label is called; None where it takes no part in compositions."""
    if REFUSED.search(label) or label in ("person", "child") or len(label) > 40:
        return None
    one = label.removesuffix(" face") if label.removesuffix(" face") in FACES else label
    if label in PROPER:
        return Noun(one, "", False, one)
    article = label not in ALONE or label in ONE
    others = tuple(SYNONYMS.get(label, ()))
    return Noun(one, "" if label in ALONE else plural(one), article, one, others)


def with_article(phrase: str) -> str:
    """ "an orange pear"."""
    silent = ("hourglass", "honest")
    sounded = ("unicorn", "uni", "europ", "one-", "euro", "ufo", "utility", "ukulele")
    vowel = phrase[0].lower() in "aeiou" and not phrase.startswith(sounded)
    return f"{'an' if vowel or phrase.startswith(silent) else 'a'} {phrase}"


def plural(phrase: str) -> str:
    """Of the noun that leads a phrase: "glasses of milk", "people in bed"."""
    if joint := JOINTS.search(phrase):
        return plural(phrase[: joint.start()]) + phrase[joint.start() :]
    words = phrase.split()
    if len(words) > 1 and words[0] in ("person", "man", "woman") and words[1].endswith("ing"):
        return " ".join([PLURALS[words[0]], *words[1:]])
    if len(words) > 1 and words[0] in ("man", "woman"):
        words[0] = PLURALS[words[0]]
    if phrase in PLURALS:
        return PLURALS[phrase]
    return " ".join([*words[:-1], _plural_word(words[-1])])


def _plural_word(word: str) -> str:
    if word in PLURALS:
        return PLURALS[word]
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def without_colour(name: str) -> str:
    """A name without its own colour word: "heart" of "light blue heart"; unchanged where nothing else is left."""
    words = [word for word in name.split() if word not in COLOURS and word not in OTHER_COLOURS]
    return " ".join(words) or name


def speaks_of_colour(text: str) -> bool:
    return any(word in COLOURS or word in OTHER_COLOURS for word in re.split(r"[ -]", text))
