"""The sample data: small drawn faces that show the seven emotions.

    images, labels = drawn_faces(count=4000, seed=0)

Every face is generated from random numbers: nothing is downloaded, and no real person is shown. An
emotion activates facial action units (`PROTOTYPES`) with random strengths; the action units move
brows, lids, nose and mouth (`Expression`); one of four styles (`STYLES`) draws the face. The line
styles resemble drawings made with a mouse, so a model trained on them can read such drawings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ferlab.errors import InputError
from ferlab.labels import EMOTIONS

SUPERSAMPLING = 4
LABEL_NOISE = 0.04  # fraction of wrong labels in `drawn_faces`
FAINT = 0.06  # fraction of faces with an expression so weak that it is close to neutral
GRID_COLUMNS = 12  # faces of each emotion in `example_grid`
GRID_MARGIN = 110  # pixels, for the names of the emotions

# Ekman & Friesen, Facial Action Coding System (1978).
ACTION_UNITS = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    19: "tongue show",
    20: "lip stretcher",
    23: "lip tightener",
    25: "lips part",
    26: "jaw drop",
}

# Emotion -> action units of its prototype -> how often each is active in a drawn face. The main
# units of a prototype are almost always active; the optional ones make the variants.
#                           prototype        optional
#   angry                   4+5+7+23         10, 17, 25
#   disgust                 9+15+16          10, 17, 19
#   fear                    1+2+4+5+20+26
#   happy                   6+12             25
#   sad                     1+4+15           17
#   surprise                1+2+5B+26
#   neutral                 none
PROTOTYPES: dict[str, dict[int, float]] = {
    "angry": {4: 0.98, 5: 0.5, 7: 0.75, 23: 0.85, 10: 0.15, 17: 0.45, 25: 0.3},
    "disgust": {9: 0.97, 15: 0.75, 16: 0.6, 10: 0.5, 17: 0.35, 19: 0.35},
    "fear": {1: 0.98, 2: 0.85, 4: 0.85, 5: 0.9, 20: 0.92, 26: 0.8},
    "happy": {6: 0.7, 12: 1.0, 25: 0.5},
    "sad": {1: 0.97, 4: 0.7, 15: 0.97, 17: 0.3},
    "surprise": {1: 0.97, 2: 0.95, 5: 0.85, 26: 1.0},
    "neutral": {},
}


@dataclass(frozen=True)
class Expression:
    """Displacements from a neutral face. Lengths in head radii; up is positive."""

    inner_brow: float  # height of the inner ends of the brows
    outer_brow: float
    brow_arch: float
    brow_knit: float  # movement of the brows towards each other
    upper_lid: float  # opening of the upper lids
    lower_lid: float  # height of the lower lids
    lid_slant: float  # height of the inner ends of the upper lids; negative in a glare
    nose_wrinkle: float  # 0 none .. 1 strong
    cheek_fold: float  # the nasolabial fold, 0 none .. 1 strong
    mouth_corners: float
    mouth_width: float  # factor of the neutral width
    mouth_wave: float  # trembling or curling lips
    mouth_squareness: float  # 0 an ellipse .. 1 almost a rectangle
    mouth_skew: float  # height difference of the corners
    upper_lip: float  # distance of the upper lip above the line of the mouth
    lower_lip: float  # distance of the lower lip below it
    teeth: bool
    tongue: bool
    tear: bool
    gaze: tuple[float, float]

    @property
    def opening(self) -> float:
        return self.upper_lip + self.lower_lip


@dataclass(frozen=True)
class Head:
    """Proportions and features of a person. Lengths in head radii from the centre; y is down."""

    width: float
    jaw: float  # fraction by which the chin is narrower than the forehead
    eye_x: float
    eye_y: float
    eye_size: float
    brow_gap: float
    mouth_y: float
    mouth_width: float
    nose: str  # none, dot, hook, wedge
    eyes: str  # dots, ovals, circles, lids, smiling
    hair: str  # none, spikes, curls, cap, long
    has_outline: bool
    has_brows: bool
    has_ears: bool


@dataclass(frozen=True)
class Pose:
    """Position of the head in the image. Lengths as fractions of the image's side."""

    centre: tuple[float, float]
    radius: float
    tilt: float  # radians
    turn: float  # -1 .. 1, left to right


@dataclass(frozen=True)
class Look:
    """Pen, paper and camera. Grey levels 0 to 255."""

    paper: float
    ink: float
    skin: float
    hair: float
    line_width: float  # fraction of the image's side
    wobble: float  # fraction of a stroke's length
    light: tuple[float, float]  # brightness gradients, left to right and top to bottom
    contrast: float
    blur: float  # radius, fraction of the image's side
    noise: float


@dataclass(frozen=True)
class Face:
    """All parameters of one drawn face."""

    emotion: int
    style: str
    expression: Expression
    head: Head
    pose: Pose
    look: Look


# --- from an emotion to an expression -----------------------------------------------------------


def random_action_units(emotion: int, rng: np.random.Generator) -> dict[int, float]:
    """The strengths (0 to 1.3) of the active action units of a random face."""
    strength = rng.uniform(0.1, 0.35) if rng.random() < FAINT else rng.uniform(0.7, 1.1)
    units = {
        unit: strength * rng.uniform(0.8, 1.15)
        for unit, frequency in PROTOTYPES[EMOTIONS[emotion]].items()
        if rng.random() < frequency
    }
    if rng.random() < 0.3:  # one unrelated, weak unit
        twitch = int(rng.choice((1, 2, 4, 5, 7, 12, 15, 17, 23, 25)))
        units[twitch] = max(units.get(twitch, 0.0), rng.uniform(0.05, 0.25))
    return units


def expression_of(units: Mapping[int, float], rng: np.random.Generator) -> Expression:
    """The expression that action units produce on a neutral face with random variations."""
    au = {unit: units.get(unit, 0.0) for unit in ACTION_UNITS}
    rest = rng.normal(0.0, 1.0, 7)

    def without(unit: int) -> float:
        """1 where the unit is inactive, down to 0 at full strength."""
        return 1 - min(au[unit], 1.0)

    jaw = au[26] * (0.5 + 0.5 * without(20))
    bared = au[25] * (au[23] + au[10])  # a snarl shows the teeth
    return Expression(
        inner_brow=0.28 * au[1] - 0.22 * au[4] * (0.2 + 0.8 * without(1)) - 0.12 * au[9],
        outer_brow=0.24 * au[2] - 0.1 * au[4] * au[1] + 0.07 * au[4] * without(1),
        brow_arch=0.06 + 0.06 * au[2] * without(4) - 0.05 * au[4] + 0.02 * rest[0],
        brow_knit=0.1 * au[4] + 0.05 * au[9],
        upper_lid=0.09 * au[5] - 0.05 * au[7] - 0.04 * au[9] - 0.03 * au[15] + 0.01 * rest[1],
        lower_lid=0.05 * au[7] + 0.06 * au[6] + 0.06 * au[9],
        lid_slant=0.05 * au[1] * without(5) - 0.07 * au[4] * without(1),
        nose_wrinkle=au[9],
        cheek_fold=max(0.7 * au[6], 0.6 * au[12], 0.9 * au[9], 0.6 * au[10]),
        mouth_corners=0.3 * au[12] - 0.27 * au[15] - 0.11 * au[17] + 0.02 * rest[2],
        mouth_width=(1 + 0.3 * au[12] + 0.4 * au[20] + 0.1 * au[16])
        * (1 - 0.25 * au[23] * without(25))
        * (1 - 0.4 * jaw * without(20)),
        mouth_wave=max(0.05 * au[20] * rng.random(), 0.09 * au[9] * rng.random()),
        mouth_squareness=min(0.8 * au[20] + 0.8 * bared + 0.5 * au[16], 1.0),
        mouth_skew=0.015 * rest[3] + 0.08 * au[10] * rest[4],
        upper_lip=0.03 * au[25] + 0.07 * bared + 0.1 * au[10] + 0.14 * jaw,
        lower_lip=0.07 * au[25] * (1 + 2.0 * au[12]) + 0.09 * bared + 0.13 * au[16] + 0.3 * jaw,
        teeth=rng.random() < 0.2 + 0.6 * max(bared, au[20], au[25] * au[12]),
        tongue=au[19] > 0.3,
        tear=rng.random() < 0.3 * au[15] * au[1],
        gaze=(0.025 * rest[5], 0.015 * rest[6] + 0.03 * au[15]),
    )


# --- shapes of the parts: arrays of points (n, 2) in head radii ---------------------------------

HALF_TURN = np.linspace(0.0, np.pi, 11)
ARC = np.stack([np.cos(HALF_TURN), np.sin(HALF_TURN)], axis=1)  # right to left, upper half
FULL_TURN = np.linspace(0.0, 2 * np.pi, 25)
CIRCLE = np.stack([np.cos(FULL_TURN), np.sin(FULL_TURN)], axis=1)
UNIT_STEPS = np.linspace(0.0, 1.0, 9)[:, None]
SIDES = (-1.0, 1.0)


def curve(*points: tuple[float, float]) -> np.ndarray:
    """The quadratic Bezier curve through three control points, or the line between two points."""
    t = UNIT_STEPS
    start, end = np.array(points[0]), np.array(points[-1])
    middle = np.array(points[1]) if len(points) == 3 else (start + end) / 2
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end


def head_outline(head: Head, scale: float = 1.0) -> np.ndarray:
    """The outline of the head, from the top once around."""
    x, y = CIRCLE[:, 1], -CIRCLE[:, 0]
    return scale * np.stack([x * head.width * (1 - head.jaw * np.maximum(y, 0.0)), y], axis=1)


def brow(face: Face, side: float) -> np.ndarray:
    """A brow, from the inner to the outer end."""
    head, moved = face.head, face.expression
    y = head.eye_y - head.brow_gap
    inner = (side * (head.eye_x - 0.17 - moved.brow_knit), y - moved.inner_brow)
    outer = (side * (head.eye_x + 0.2), y + 0.03 - moved.outer_brow)
    arch = (inner[1] + outer[1]) / 2 - 2 * moved.brow_arch
    return curve(inner, (side * (head.eye_x + 0.03), arch), outer)


def lids(face: Face, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The upper and lower lid of one eye, both from right to left."""
    head, moved = face.head, face.expression
    half_width = 0.18 * head.eye_size
    above = max(0.12 * head.eye_size + moved.upper_lid, 0.015)
    below = max(0.1 * head.eye_size - moved.lower_lid, 0.01)
    centre = np.array([side * head.eye_x, head.eye_y])
    rise = np.sqrt(ARC[:, 1])
    slant = moved.lid_slant * ARC[:, 0] * side * rise
    upper = centre + np.stack([half_width * ARC[:, 0], slant - above * rise], axis=1)
    lower = centre + np.stack([half_width * ARC[:, 0], below * rise], axis=1)
    return upper, lower


def iris(face: Face, side: float) -> np.ndarray:
    """A disc, clipped by the lids."""
    head, moved = face.head, face.expression
    upper, lower = lids(face, side)
    centre = np.array([side * head.eye_x, head.eye_y]) + np.array(moved.gaze)
    disc = centre + 0.085 * head.eye_size * CIRCLE
    disc[:, 1] = np.clip(disc[:, 1], upper[:, 1].min(), lower[:, 1].max())
    return disc


def lips(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """The upper and lower edge of the mouth, both from right to left."""
    head, moved = face.head, face.expression
    x = ARC[:, 0]
    swell = ARC[:, 1] ** (1.0 - 0.6 * moved.mouth_squareness)
    line = (
        head.mouth_y
        - moved.mouth_corners * (x**2 - 0.4)
        - moved.mouth_skew * x
        + moved.mouth_wave * np.sin(3 * np.pi * x)
    )
    across = head.mouth_width * moved.mouth_width * x
    upper = np.stack([across, line - moved.upper_lip * swell], axis=1)
    lower = np.stack([across, line + moved.lower_lip * swell], axis=1)
    return upper, lower


def between(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The closed shape between two curves of the same direction."""
    return np.concatenate([upper, lower[::-1], upper[:1]])


def upper_teeth(face: Face) -> np.ndarray:
    upper, lower = lips(face)
    edge = np.minimum(upper[:, 1] + max(0.05, 0.35 * face.expression.opening), lower[:, 1])
    return between(upper, np.stack([upper[:, 0], edge], axis=1))


def tongue(face: Face) -> np.ndarray:
    _, lower = lips(face)
    middle = lower[len(lower) // 2]
    return middle + np.array([0.16, 0.26]) * np.stack([ARC[:, 0], ARC[:, 1] ** 0.6 - 0.2], axis=1)


def cheek_fold(face: Face, side: float) -> np.ndarray:
    corner = face.head.mouth_width * face.expression.mouth_width + 0.12
    y = face.head.mouth_y - 0.6 * face.expression.mouth_corners
    return curve((side * 0.24, 0.12), (side * (corner - 0.06), 0.2), (side * corner, y))


def nose_wrinkles(face: Face) -> list[np.ndarray]:
    """Lines across the root of the nose, and the raised wings of the nose."""
    heights = (0.0, 0.13) if face.look.line_width < 0.03 else (0.06,)
    across = [
        curve((-0.1, y + 0.03), (0.0, y - 0.05), (0.1, y + 0.03))
        for y in face.head.eye_y + np.array(heights)
    ]
    wings = [curve((s * 0.1, 0.26), (s * 0.24, 0.27), (s * 0.17, 0.08)) for s in SIDES]
    return across + wings


# --- the pen ------------------------------------------------------------------------------------


class Pen:
    """Draws shapes given in head radii at the pose of a face, with a slight random wobble."""

    def __init__(self, face: Face, size: int, rng: np.random.Generator):
        pose, self.rng = face.pose, rng
        self.image = Image.new("L", (size, size), round(face.look.paper))
        self.draw = ImageDraw.Draw(self.image)
        cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
        self.axes = pose.radius * size * np.array([[cos, sin], [-sin, cos]])
        self.centre = size * np.array(pose.centre)
        self.turn = 0.25 * pose.turn
        self.wobble = face.look.wobble
        self.line_width = face.look.line_width * size

    def place(self, points: np.ndarray, *, turns: bool) -> list[float]:
        """Pixel coordinates as a flat list. turns: whether a turn of the head moves the shape."""
        reach = (points.max(axis=0) - points.min(axis=0)).max()
        chance = self.rng.random((2, 2))
        swing = 2 * np.pi * (0.6 + 1.2 * chance[0])
        along = np.arange(len(points))[:, None] / (len(points) - 1)
        points = points + self.wobble * reach * np.sin(swing * along + 2 * np.pi * chance[1])
        if turns:
            points[:, 0] += self.turn * (1 - np.minimum(points[:, 0] ** 2, 1.0))
        return (points @ self.axes + self.centre).ravel().tolist()

    def stroke(
        self, points: np.ndarray, ink: float, width: float = 1.0, *, turns: bool = True
    ) -> None:
        """A line with round ends; `width` is a factor of the look's line width."""
        places = self.place(points, turns=turns)
        thick = max(round(width * self.line_width), 1)
        self.draw.line(places, fill=round(ink), width=thick)
        half = thick / 2 - 0.5
        for x, y in (places[:2], places[-2:]):
            self.draw.ellipse((x - half, y - half, x + half, y + half), fill=round(ink))

    def fill(self, points: np.ndarray, ink: float, *, turns: bool = True) -> None:
        self.draw.polygon(self.place(points, turns=turns), fill=round(ink))


# --- the styles ---------------------------------------------------------------------------------


def draw_lines(face: Face, pen: Pen) -> None:
    """A stick figure's head, as if drawn with a mouse or chalk: lines of one grey level."""
    head, moved, ink = face.head, face.expression, face.look.ink
    if head.has_outline:
        pen.stroke(head_outline(head), ink, turns=False)
    draw_hair_lines(face, pen)
    for side in SIDES:
        draw_eye_lines(face, pen, side)
        if head.has_brows:
            pen.stroke(brow(face, side), ink)
        if moved.cheek_fold > 0.75 and pen.rng.random() < 0.3:
            pen.stroke(cheek_fold(face, side), ink, 0.7)
        if head.has_ears:
            pen.stroke(side * head.width * np.array([1.05, 0]) + 0.16 * CIRCLE, ink, turns=False)
    draw_nose_lines(face, pen)
    draw_mouth_lines(face, pen)
    if moved.tear:
        pen.stroke(curve((head.eye_x, 0.1), (head.eye_x + 0.04, 0.3)), ink)


def draw_hair_lines(face: Face, pen: Pen) -> None:
    head, ink, rng = face.head, face.look.ink, pen.rng
    if head.hair == "spikes":
        for angle in np.linspace(-0.9, 0.9, int(rng.integers(3, 9))) + rng.normal(0, 0.1):
            root = np.array([head.width * np.sin(angle), -np.cos(angle)])
            tip = root * rng.uniform(1.15, 1.35)
            pen.stroke(curve(tuple(root), tuple(tip)), ink, turns=False)
    elif head.hair == "curls":
        for angle in np.linspace(-1.0, 1.0, int(rng.integers(4, 7))):
            root = 1.05 * np.array([head.width * np.sin(angle), -np.cos(angle)])
            pen.stroke(root + 0.17 * CIRCLE, ink, turns=False)
    elif head.hair == "cap":
        pen.stroke(hairline(head), ink, turns=False)
    elif head.hair == "long":
        for side in SIDES:
            x = side * head.width
            pen.stroke(curve((0.0, -1.0), (1.5 * x, -1.0), (1.2 * x, 0.7)), ink, turns=False)


def draw_eye_lines(face: Face, pen: Pen, side: float) -> None:
    head, moved, ink = face.head, face.expression, face.look.ink
    centre = np.array([side * head.eye_x, head.eye_y])
    if head.eyes == "dots":
        pen.fill(centre + 0.07 * head.eye_size * CIRCLE, ink)
        pen.stroke(centre + 0.02 * CIRCLE, ink)
    elif head.eyes == "ovals":
        tall = max(0.14 * head.eye_size + moved.upper_lid - moved.lower_lid, 0.03)
        pen.fill(centre + np.array([0.07 * head.eye_size, tall]) * CIRCLE, ink)
    elif head.eyes == "smiling":
        pen.stroke(centre + np.array([0.16, -0.12]) * head.eye_size * ARC, ink)
    elif head.eyes == "circles":
        radius = max(0.15 * head.eye_size + moved.upper_lid, 0.08)
        pen.stroke(centre + radius * CIRCLE, ink, 0.8)
        pen.fill(centre + np.array(moved.gaze) + 0.045 * CIRCLE, ink)
    else:
        upper, lower = lids(face, side)
        pen.stroke(upper, ink, 0.8)
        pen.stroke(lower, ink, 0.6)
        pen.fill(iris(face, side), ink)


def draw_nose_lines(face: Face, pen: Pen) -> None:
    nose, ink = face.head.nose, face.look.ink
    if face.expression.nose_wrinkle > 0.35:
        for line in nose_wrinkles(face):
            pen.stroke(line, ink, 0.7)
    elif nose == "dot":
        pen.fill(np.array([0.0, 0.2]) + 0.04 * CIRCLE, ink)
    elif nose == "hook":
        pen.stroke(curve((0.0, -0.05), (-0.16, 0.24), (0.04, 0.24)), ink, 0.8)
    elif nose == "wedge":
        pen.stroke(np.array([(0.0, -0.08), (-0.12, 0.2), (0.08, 0.22)]), ink, 0.8)


def draw_mouth_lines(face: Face, pen: Pen) -> None:
    moved, ink = face.expression, face.look.ink
    upper, lower = lips(face)
    if moved.opening < 0.06:
        pen.stroke((upper + lower) / 2, ink)
    else:
        mouth = between(upper, lower)
        if not moved.teeth and pen.rng.random() < 0.4:
            pen.fill(mouth, ink)
        pen.stroke(mouth, ink)
        if moved.teeth and not moved.tongue:
            draw_teeth_lines(upper, lower, pen, ink)
    if moved.tongue:
        pen.fill(tongue(face), face.look.paper)
        pen.stroke(tongue(face), ink)


def draw_teeth_lines(upper: np.ndarray, lower: np.ndarray, pen: Pen, ink: float) -> None:
    """A line between the rows of teeth and a few across, as in a drawn grimace."""
    pen.stroke((upper + lower) / 2, ink, 0.6)
    for i in (3, 5, 7):
        pen.stroke(np.stack([upper[i], lower[i]]), ink, 0.6)


def hairline(head: Head) -> np.ndarray:
    """The hairline, from temple to temple."""
    return curve((-0.97 * head.width, -0.25), (0.0, -1.15), (0.97 * head.width, -0.25))


def draw_hair_mass(face: Face, pen: Pen) -> None:
    """Filled hair on top of the head."""
    head = face.head
    if head.hair == "none":
        return
    around = head_outline(head, scale=1.07)
    scalp = np.concatenate([around[19:], around[:6]])  # from the left temple to the right one
    pen.fill(np.concatenate([scalp, hairline(head)[::-1]]), face.look.hair, turns=False)


def draw_long_hair(face: Face, pen: Pen) -> None:
    """Hair behind the head; drawn before it."""
    if face.head.hair == "long":
        behind = np.array([1.3 * face.head.width, 1.15]) * CIRCLE + np.array([0.0, 0.1])
        pen.fill(behind, face.look.hair, turns=False)


def draw_cartoon(face: Face, pen: Pen) -> None:
    """Outlines, eyes with whites, filled hair and mouth."""
    head, moved, look = face.head, face.expression, face.look
    draw_long_hair(face, pen)
    for side in SIDES:
        if head.has_ears:
            ear = side * head.width * np.array([1.02, 0.0]) + 0.17 * CIRCLE
            pen.fill(ear, look.skin, turns=False)
            pen.stroke(ear, look.ink, turns=False)
    outline = head_outline(head)
    pen.fill(outline, look.skin, turns=False)
    if head.has_outline:
        pen.stroke(outline, look.ink, turns=False)
    draw_hair_mass(face, pen)
    for side in SIDES:
        draw_cartoon_eye(face, pen, side)
        if head.has_brows:
            pen.stroke(brow(face, side), look.ink, 1.4)
        if moved.cheek_fold > 0.5:
            pen.stroke(cheek_fold(face, side), look.ink, 0.6)
    draw_nose_lines(face, pen)
    draw_filled_mouth(face, pen, inside=look.ink, outline=look.ink, width=1.0)
    if moved.tear:
        drop = np.array([0.06, 0.11]) * CIRCLE + np.array([head.eye_x + 0.05, head.eye_y + 0.33])
        pen.fill(drop, 255)
        pen.stroke(drop, look.ink, 0.6)


def draw_cartoon_eye(face: Face, pen: Pen, side: float) -> None:
    look = face.look
    if face.head.eyes in ("dots", "ovals", "smiling"):
        draw_eye_lines(face, pen, side)
        return
    upper, lower = lids(face, side)
    pen.fill(between(upper, lower), 255)
    pen.fill(iris(face, side), look.ink)
    pen.stroke(upper, look.ink)
    pen.stroke(lower, look.ink, 0.6)


def draw_filled_mouth(face: Face, pen: Pen, inside: float, outline: float, width: float) -> None:
    moved, look = face.expression, face.look
    upper, lower = lips(face)
    if moved.opening < 0.06:
        pen.stroke((upper + lower) / 2, outline, 1.2 * width)
    else:
        mouth = between(upper, lower)
        pen.fill(mouth, inside)
        if moved.teeth:
            pen.fill(upper_teeth(face), 240)
        pen.stroke(mouth, outline, width)
    if moved.tongue:
        pen.fill(tongue(face), 0.6 * look.skin)
        pen.stroke(tongue(face), outline, 0.7)


def draw_shaded(face: Face, pen: Pen) -> None:
    """Grey skin, no outlines, soft shadows: similar to a photograph of low resolution."""
    head, moved, look = face.head, face.expression, face.look
    shadow, line = 0.82 * look.skin, 0.55 * look.skin
    draw_long_hair(face, pen)
    pen.fill(np.array([0.4, 0.6]) * CIRCLE + np.array([0.0, 1.2]), shadow, turns=False)
    pen.fill(head_outline(head), look.skin, turns=False)
    draw_hair_mass(face, pen)
    for side in SIDES:
        eye = np.array([side * head.eye_x, head.eye_y])
        pen.fill(eye + np.array([0.26, 0.2]) * CIRCLE, 0.9 * look.skin)
        draw_shaded_eye(face, pen, side, shadow)
        pen.stroke(brow(face, side), look.hair, 1.8)
        if moved.cheek_fold > 0.3:
            pen.stroke(cheek_fold(face, side), shadow - 35 * moved.cheek_fold, 0.9)
        pen.fill(np.array([side * 0.09, 0.25]) + 0.04 * CIRCLE, line)
    pen.stroke(curve((0.08, -0.1), (0.14, 0.2)), shadow, 1.5)
    if moved.nose_wrinkle > 0.25:
        for wrinkle in nose_wrinkles(face):
            pen.stroke(wrinkle, line, 0.8)
    draw_filled_mouth(face, pen, inside=30, outline=line, width=1.5)
    pen.stroke(curve((-0.12, 0.86), (0.0, 0.8), (0.12, 0.86)), shadow, 1.2)


def draw_shaded_eye(face: Face, pen: Pen, side: float, shadow: float) -> None:
    look = face.look
    upper, lower = lids(face, side)
    pen.fill(between(upper, lower), min(look.skin + 60, 245))
    pen.fill(iris(face, side), 25)
    pen.stroke(upper, 30, 0.9)
    pen.stroke(lower, shadow - 20, 0.6)


# --- random faces -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """A way to draw faces: its frequency, its drawing function and the ranges of its parameters."""

    share: float
    draw: Callable[[Face, Pen], None]
    radius: tuple[float, float]  # of the head, fraction of the image's side
    line_width: tuple[float, float]  # fraction of the image's side
    wobble: tuple[float, float]
    nose: tuple[str, ...]
    eyes: tuple[str, ...]
    hair: tuple[str, ...]


STYLES = {
    "stick": Style(
        share=0.4,
        draw=draw_lines,
        radius=(0.33, 0.48),
        line_width=(0.018, 0.048),
        wobble=(0.005, 0.04),
        nose=("none", "none", "dot", "hook", "wedge"),
        eyes=("dots", "dots", "ovals", "circles", "circles", "lids"),
        hair=("none", "none", "none", "spikes", "curls", "cap", "long"),
    ),
    "chalk": Style(
        share=0.1,
        draw=draw_lines,
        radius=(0.37, 0.48),
        line_width=(0.018, 0.045),
        wobble=(0.005, 0.03),
        nose=("none", "dot", "hook", "wedge"),
        eyes=("dots", "ovals", "circles", "lids"),
        hair=("none", "none", "spikes", "curls", "cap"),
    ),
    "cartoon": Style(
        share=0.25,
        draw=draw_cartoon,
        radius=(0.38, 0.5),
        line_width=(0.015, 0.034),
        wobble=(0.0, 0.025),
        nose=("none", "dot", "hook", "wedge"),
        eyes=("dots", "ovals", "lids", "lids", "lids"),
        hair=("none", "cap", "cap", "long"),
    ),
    "shaded": Style(
        share=0.25,
        draw=draw_shaded,
        radius=(0.42, 0.54),
        line_width=(0.016, 0.03),
        wobble=(0.0, 0.02),
        nose=("none",),
        eyes=("lids",),
        hair=("none", "cap", "cap", "cap", "long"),
    ),
}


def pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def random_head(style: Style, units: Mapping[int, float], rng: np.random.Generator) -> Head:
    """A random person in a style.

    As in drawings by people, wide-open eyes are seldom dots, and a face with an active brow unit
    usually has brows.
    """
    eyes = pick(style.eyes, rng)
    if units.get(6, 0.0) > 0.5 and "dots" in style.eyes and rng.random() < 0.3:
        eyes = "smiling"
    elif units.get(5, 0.0) > 0.4 and eyes == "dots" and rng.random() < 0.7:
        eyes = "circles"
    expressive_brows = max(units.get(unit, 0.0) for unit in (1, 2, 4)) > 0.3
    return Head(
        width=rng.uniform(0.82, 1.05),
        jaw=rng.uniform(0.0, 0.2),
        eye_x=rng.uniform(0.34, 0.42),
        eye_y=rng.uniform(-0.24, -0.1),
        eye_size=rng.uniform(0.95, 1.25),
        brow_gap=rng.uniform(0.24, 0.34),
        mouth_y=rng.uniform(0.46, 0.58),
        mouth_width=rng.uniform(0.34, 0.46),
        nose=pick(style.nose, rng),
        eyes=eyes,
        hair=pick(style.hair, rng),
        has_outline=rng.random() < 0.94,
        has_brows=rng.random() < (0.97 if expressive_brows else 0.6),
        has_ears=rng.random() < 0.15,
    )


def random_pose(style: Style, rng: np.random.Generator) -> Pose:
    radius = rng.uniform(*style.radius)
    return Pose(
        centre=(0.5 + rng.uniform(-0.075, 0.075), 0.5 + rng.uniform(-0.075, 0.075)),
        radius=radius,
        tilt=float(np.clip(rng.normal(0.0, 0.1), -0.3, 0.3)),
        turn=float(np.clip(rng.normal(0.0, 0.35), -1.0, 1.0)),
    )


def random_look(name: str, rng: np.random.Generator) -> Look:
    style = STYLES[name]
    shaded, clean = name == "shaded", rng.random() < 0.7
    skin = rng.uniform(95, 215) if shaded else rng.choice((255.0, rng.uniform(170, 250)))
    if name == "chalk":
        paper, ink = rng.uniform(0, 70), rng.uniform(190, 255)
    elif shaded:
        paper, ink = rng.uniform(15, 235), 30.0
    else:
        paper, ink = (255.0, 0.0) if clean else (rng.uniform(215, 255), rng.uniform(0, 90))
    rough = shaded or not clean
    return Look(
        paper=paper,
        ink=ink,
        skin=skin,
        hair=rng.uniform(15, 0.7 * skin),
        line_width=rng.uniform(*style.line_width),
        wobble=rng.uniform(*style.wobble),
        light=tuple(rng.normal(0.0, 22.0, 2)) if shaded else (0.0, 0.0),
        contrast=rng.uniform(0.65, 1.1) if rough else 1.0,
        blur=rng.uniform(0.005, 0.018) if shaded else 0.0,
        noise=rng.uniform(1.0, 9.0) if rough else 0.0,
    )


def random_face(emotion: int, rng: np.random.Generator) -> Face:
    """Random parameters of one face that shows `emotion` (an index of EMOTIONS)."""
    shares = np.cumsum([style.share for style in STYLES.values()])
    name = tuple(STYLES)[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
    units = random_action_units(emotion, rng)
    return Face(
        emotion=emotion,
        style=name,
        expression=expression_of(units, rng),
        head=random_head(STYLES[name], units, rng),
        pose=random_pose(STYLES[name], rng),
        look=random_look(name, rng),
    )


# --- images -------------------------------------------------------------------------------------


def photograph(drawing: Image.Image, look: Look, rng: np.random.Generator) -> np.ndarray:
    """The drawing as taken by a poor camera: uneven light, low contrast, blur and noise."""
    size = drawing.width
    if look.blur:
        drawing = drawing.filter(ImageFilter.GaussianBlur(look.blur * size))
    if not (look.noise or any(look.light)):
        return np.asarray(drawing)
    along = np.linspace(-1.0, 1.0, size)
    light = look.light[0] * along + look.light[1] * along[:, None]
    pixels = 128 + look.contrast * (np.asarray(drawing, np.float64) - 128) + light
    pixels += rng.normal(0.0, look.noise, pixels.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def render(face: Face, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """Draw `face`: uint8 (size, size). `rng` is for the wobble and the noise."""
    pen = Pen(face, SUPERSAMPLING * size, rng)
    STYLES[face.style].draw(face, pen)
    return photograph(pen.image.reduce(SUPERSAMPLING), face.look, rng)


def draw_face(emotion: int, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """Draw a random face that shows `emotion`, an index of EMOTIONS: uint8 (size, size)."""
    return render(random_face(emotion, rng), rng, size)


def drawn_faces(
    count: int, seed: int, size: int = 48, label_noise: float = LABEL_NOISE
) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) of random faces, about the same number of each emotion.

    images: uint8 (count, size, size, 1); labels: int64 (count,), indices of EMOTIONS
    label_noise: fraction of wrong labels, as in data labelled by people; the images do not depend
        on it

    Face i depends only on (seed, i), so a longer set starts with the shorter one. Raises InputError
    for a negative count or seed, and for a label noise outside 0 to 1.

    >>> images, labels = drawn_faces(3, seed=0, label_noise=0)
    >>> images.shape, [EMOTIONS[label] for label in labels]
    ((3, 48, 48, 1), ['surprise', 'happy', 'neutral'])
    """
    if count < 0 or seed < 0:
        raise InputError(f"count and seed must be 0 or more. Received: {count}, {seed}")
    if not 0 <= label_noise <= 1:
        raise InputError(f"label noise must be between 0 and 1. Received: {label_noise}")
    images = np.empty((count, size, size, 1), np.uint8)
    labels = np.empty(count, np.int64)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        emotion, shift = int(rng.integers(len(EMOTIONS))), int(rng.integers(1, len(EMOTIONS)))
        is_wrong = rng.random() < label_noise
        images[i, :, :, 0] = draw_face(emotion, rng, size)
        labels[i] = (emotion + shift * is_wrong) % len(EMOTIONS)
    return images, labels


def example_grid(seed: int, scale: int = 2) -> Image.Image:
    """A picture with a row of random faces for each emotion, enlarged by `scale`."""
    side = 48 * scale
    cell = side + 4
    grid = Image.new("L", (GRID_MARGIN + GRID_COLUMNS * cell, len(EMOTIONS) * cell), 255)
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(size=22)
    for row, emotion in enumerate(EMOTIONS):
        middle = (GRID_MARGIN - 10, row * cell + cell // 2)
        draw.text(middle, emotion, fill=0, anchor="rm", font=font)
        for column in range(GRID_COLUMNS):
            face = Image.fromarray(draw_face(row, np.random.default_rng([seed, row, column])))
            enlarged = face.resize((side, side), Image.Resampling.NEAREST)
            grid.paste(enlarged, (GRID_MARGIN + column * cell + 2, row * cell + 2))
    return grid
