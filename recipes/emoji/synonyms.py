"""Everyday names of things that emojibase calls otherwise: what people type; "~" before one that takes no "a"."""

from __future__ import annotations


def listed(text: str) -> frozenset[str]:
    """The labels of a list with commas."""
    return frozenset(" ".join(label.split()) for label in text.split(","))


SYNONYMS: dict[str, tuple[str, ...]] = {
    label: tuple(name.strip() for name in names.split(","))
    for label, names in (
        line.split(":")
        for line in """
hot beverage: coffee cup, cup of tea, mug, ~coffee, hot drink
automobile: car
oncoming automobile: car
sport utility vehicle: car, suv
racing car: race car
airplane: plane, aeroplane, jet
small airplane: small plane
motorcycle: motorbike
motor scooter: scooter, moped
bicycle: bike
fire engine: fire truck
delivery truck: truck, lorry
articulated lorry: big truck, lorry
pickup truck: pickup, truck
passenger ship: cruise ship, ship
sailboat: sailing boat, boat
motor boat: boat
speedboat: boat, motorboat
flying saucer: ufo, spaceship
locomotive: steam train, train
railway car: train car
tram car: tram
derelict house: abandoned house, old house
deciduous tree: tree
evergreen tree: pine tree, fir tree, tree
potted plant: plant in a pot, houseplant
honeybee: bee
lady beetle: ladybug, ladybird
bug: caterpillar
baby chick: chick
front-facing baby chick: chick
spouting whale: whale
sauropod: long-necked dinosaur, brontosaurus
rhinoceros: rhino
hippopotamus: hippo
crocodile: alligator
cat: kitty
cat face: kitty, kitten
dog face: puppy
dog: puppy
rabbit face: bunny
rabbit: bunny
pig face: piggy
ram: sheep
mouse face: little mouse
ear of corn: ~corn on the cob
hot pepper: chili pepper, chili
hamburger: burger, cheeseburger
french fries: ~fries, ~chips
doughnut: donut
soft ice cream: ice cream cone
cheese wedge: piece of cheese
poultry leg: chicken leg, drumstick
cut of meat: steak
cooked rice: ~rice, bowl of rice
steaming bowl: bowl of noodles, ramen bowl
shallow pan of food: paella
green salad: salad
cup with straw: soft drink, soda
beverage box: juice box
beer mug: beer, glass of beer
wine glass: glass of wine
glass of milk: milk glass
tropical drink: cocktail
cocktail glass: cocktail, martini
tumbler glass: whisky glass
bottle with popping cork: champagne bottle
shortcake: piece of cake, slice of cake
birthday cake: cake
custard: pudding, flan
honey pot: jar of honey
tangerine: orange, mandarin
red apple: apple
eggplant: aubergine
bell pepper: pepper
snow-capped mountain: snowy mountain
desert island: island with a palm tree
office building: tall building, skyscraper
classical building: temple
t-shirt: shirt
necktie: tie
jeans: pair of jeans
running shoe: sneaker, trainer
high-heeled shoe: high heel
man’s shoe: leather shoe
woman’s boot: high boot
woman’s hat: sun hat
billed cap: baseball cap
graduation cap: mortarboard
rescue worker’s helmet: rescue helmet, helmet
military helmet: army helmet, helmet
clutch bag: small bag
handbag: bag
backpack: rucksack, school bag
luggage: trolley suitcase
glasses: pair of glasses, ~spectacles
sunglasses: pair of sunglasses, ~dark glasses
gem stone: jewel
notebook with decorative cover: notebook
laptop: laptop computer, computer
desktop computer: computer screen, monitor
computer mouse: pc mouse
television: tv
mobile phone: phone, smartphone, cell phone
telephone receiver: phone receiver
telephone: phone
headphone: ~headphones
light bulb: lightbulb, lamp
magnifying glass tilted left: magnifying glass
magnifying glass tilted right: magnifying glass
wrapped gift: present, gift
party popper: confetti popper
jack-o-lantern: halloween pumpkin, carved pumpkin
soccer ball: football
boxing glove: boxing mitt
fishing pole: fishing rod
video game: game controller, gamepad
game die: ~dice
bullseye: target, dartboard
artist palette: palette, paint palette
framed picture: painting, picture frame
musical keyboard: piano
couch and lamp: sofa and a lamp
wastebasket: trash can, bin
shopping cart: shopping trolley
carpentry saw: saw
kitchen knife: knife
high voltage: lightning bolt
glowing star: shining star
sun with face: smiling sun
full moon face: smiling moon
crescent moon: moon
droplet: water drop, drop of water
ringed planet: ~saturn, planet with a ring
globe showing americas: globe, ~earth
globe showing europe-africa: globe, ~earth
globe showing asia-australia: globe, ~earth
police officer: policeman
pile of poo: ~poop
skull: human skull
santa claus: ~father christmas
envelope: letter
incoming envelope: letter
package: cardboard box, parcel
police car: cop car
umbrella with rain drops: umbrella in the rain
cloud with rain: rain cloud
cloud with snow: snow cloud
cloud with lightning: storm cloud
adhesive bandage: plaster, band-aid
grinning face: happy face
slightly smiling face: smiling face, smiley
angry face: mad face
crying face: sad face
smiling face with sunglasses: cool face
bear: bear face
fox: fox face
lion: lion face
frog: frog face
panda: panda bear
""".strip().splitlines()
    )
}
