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
    kaaba, mount fuji, mrs. claus, mx claus, santa claus, star of david, statue of liberty,
    tokyo tower
    """
)
RENAMED = {  # what emojibase's label is called in a sentence
    **{f"magnifying glass tilted {side}": "magnifying glass" for side in ("left", "right")},
    **{f"hourglass {state}": "hourglass" for state in ("done", "not done")},
    **{f"{colour} {size} square": f"{colour} square" for colour in ("black", "white") for size in
       ("large", "medium", "medium-small", "small")},
    **{f"{size} {colour} diamond": f"{colour} diamond" for size in ("large", "small") for colour in ("orange", "blue")},
    **{f"{suit} suit": f"playing-card {suit}" for suit in ("spade", "heart", "diamond", "club")},
    "snowman without snow": "snowman", "front-facing baby chick": "baby chick", "flower playing cards": "playing card",
    "luggage": "suitcase", "t-rex": "tyrannosaurus", "airplane arrival": "landing airplane",
    "airplane departure": "departing airplane", "sauropod": "dinosaur", "sheaf of rice": "rice plant",
    "closed mailbox with lowered flag": "mailbox", "closed mailbox with raised flag": "mailbox",
    "open mailbox with lowered flag": "open mailbox", "open mailbox with raised flag": "open mailbox",
    "hot beverage": "cup of coffee", "billed cap": "cap", "man’s shoe": "shoe", "woman’s hat": "hat",
    "woman’s boot": "boot", "woman’s sandal": "sandal", "gem stone": "gem", "closed book": "book",
    "locked": "padlock", "unlocked": "open padlock", "ewe": "sheep", "locked with key": "padlock with a key",
    "locked with pen": "padlock with a pen", "page facing up": "sheet of paper", "flexed biceps": "flexed arm",
    "playground slide": "slide", "ear of corn": "corn cob", "two-hump camel": "camel",
    "ballot box with ballot": "ballot box", "full moon face": "moon with a face", "sun with face": "sun with a face",
    "face with symbols on mouth": "swearing face", "candy": "piece of candy",
    "heart with arrow": "heart with an arrow", "heart with ribbon": "heart with a ribbon",
    "smiling face with halo": "smiling face with a halo", "face with tongue": "face with its tongue out",
    "smiling face with tear": "smiling face with a tear", "face with monocle": "face with a monocle",
    "face with thermometer": "face with a thermometer", "face with medical mask": "face with a mask",
    "face with head-bandage": "face with a bandage", "cup with straw": "cup with a straw",
    "bowl with spoon": "bowl with a spoon", "camera with flash": "camera with a flash",
    "house with garden": "house with a garden", "cowboy hat face": "face with a cowboy hat",
    "fork and knife with plate": "plate with fork and knife",
    "speaker low volume": "speaker", "speaker medium volume": "speaker", "speaker high volume": "speaker",
    "wood": "log", "ice": "ice cube", "thread": "spool of thread", "yarn": "ball of yarn", "bread": "loaf of bread",
    "high voltage": "lightning bolt", "cooking": "frying pan with an egg", "cyclone": "spiral", "link": "chain link",
    "pick": "pickaxe", "hatching chick": "chick in an egg", "salt": "salt shaker", "canned food": "tin can",
    "tennis": "tennis racket", "badminton": "badminton racket", "ping pong": "ping-pong paddle",
    "lacrosse": "lacrosse stick", "ice hockey": "ice hockey stick", "field hockey": "field hockey stick",
    "cricket game": "cricket bat", "bubble tea": "cup of bubble tea", "mirror ball": "disco ball",
    "leafy green": "lettuce", "four leaf clover": "clover",
    "soft ice cream": "ice cream cone", "ice cream": "cup of ice cream", "soap": "bar of soap", "garlic": "garlic bulb",
}  # fmt: skip
REFUSED = re.compile(
    r"[:\d!“”()#*]|button|o’clock|-thirty|\bzzz\b|gesturing|facing right|-no-evil|holding hands"
    r"|^(landslide|construction|station|star-struck|motorway|metro|light rail|hole|collision|dizzy|dashing away"
    r"|fight cloud|selfie|writing hand|joker|rolling on .*|exploding head|head shaking .*|hundred points|thumbs .*"
    r"|middle finger|heart exclamation|level slider|breast-feeding|mx claus|mrs. claus|e-mail|placard|hot springs"
    r"|bell with slash|muted speaker|mobile phone with arrow|sweat droplets|heart decoration|mate|deaf .*|horse racing"
    r"|person in suit.*|kiss|kiss mark|handshake|anger symbol|left speech bubble|right anger bubble|low battery"
    r"|chart .*|(men|women|people) .*|foggy|camping|wedding|performing arts|person"
    r"|clapping hands|raising hands|folded hands|palms up together|body in silhouette|mountain railway|.* feeding baby"
    r"|airplane arrival|railway track|label|hairy creature|.* getting (massage|haircut)"
    r"|dotted line face|x-ray|diya lamp|.* in steamy room|tanabata tree|pine decoration|fog"
    r"|building construction|moon viewing ceremony|reminder ribbon|mahjong red dragon|milky way)$"
)
UNCOUNTED = re.compile(r"bowl with|with mountain|^(.* (moon|moon face)|sun .*|globe .*|world map|earth)$")
PLURALS = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth",
    "mouse": "mice", "goose": "geese", "fish": "fish", "tropical fish": "tropical fish", "blowfish": "blowfish",
    "sheep": "sheep", "sheaf": "sheaves",
    "tornado": "tornadoes",  "deer": "deer", "bison": "bison", "moose": "moose", "squid": "squid", "shrimp": "shrimp",
    "jellyfish": "jellyfish", "leaf": "leaves", "maple leaf": "maple leaves", "knife": "knives", "wolf": "wolves",
    "elf": "elves", "scarf": "scarves", "octopus": "octopuses", "cactus": "cacti",
    "hippopotamus": "hippos", "rhinoceros": "rhinos", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes",
    "volcano": "volcanoes", "merman": "mermen", "snowman": "snowmen", "die": "dice",
    "kitchen knife": "kitchen knives", "aircraft": "aircraft", "hamburger": "hamburgers",
    "passenger ship": "passenger ships", "fairy": "fairies", "cookie": "cookies",
    "salmon": "salmon", "buffalo": "buffalo", "water buffalo": "water buffalo", "mosquito": "mosquitoes",
    "superhero": "superheroes", "dodo": "dodos", "yo-yo": "yo-yos", "flamingo": "flamingos", "ox": "oxen",
}  # fmt: skip
JOINTS = re.compile(
    r" (with|without|of|in|on|behind|and|over|from|showing|wearing|holding|taking|blowing|savoring|screaming|exhaling"
    r"|vomiting)\b"
)
COLOUR_WORD = re.compile(rf"\b(?:(?:light|dark) )?(?:{'|'.join((*COLOURS, *OTHER_COLOURS))})\b ?")


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
    """What a label is called in a sentence; None where it takes no part in compositions."""
    if REFUSED.search(label) or len(label) > 44:
        return None
    animal = label.removesuffix(" face")
    one = RENAMED.get(label, animal if animal in FACES else label)
    others = tuple(name for name in SYNONYMS.get(label, ()) if name != one)
    alone = label in ALONE and label not in RENAMED
    article = label not in PROPER and (not alone or label in ONE)
    counted = label not in PROPER and not alone and not UNCOUNTED.search(label)
    return Noun(one, plural(one) if counted else "", article, key_of(one), others)


@cache
def _keys() -> dict[str, str]:
    """Name -> the first of all names that it shares a thing with, since "car" is said of several labels."""
    first: dict[str, str] = {}
    for label, others in SYNONYMS.items():
        known = noun_names(label, others)
        key = next((first[name] for name in known if name in first), known[0])
        old = {first[name] for name in known if name in first}
        first = {name: key if at in old else at for name, at in first.items()} | dict.fromkeys(known, key)
    return first


def noun_names(label: str, others: tuple[str, ...]) -> list[str]:
    """Every name of a thing, in lower case."""
    return [RENAMED.get(label, label.removesuffix(" face")), *(name.removeprefix("~") for name in others)]


def key_of(one: str) -> str:
    """What combinations of a thing are held out by: one of all its names, always the same."""
    return _keys().get(one, one)


def with_article(phrase: str) -> str:
    """ "an orange pear"."""
    silent = ("hourglass", "honest")
    sounded = ("uni", "euro", "one-", "ufo", "utility")
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
    return COLOUR_WORD.sub("", name).strip() or name


def speaks_of_colour(text: str) -> bool:
    return COLOUR_WORD.search(text.replace("-", " ")) is not None
