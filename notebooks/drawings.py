"""Thirty small pictures, charts and diagrams, and a dozen texts: something to search in.

Each picture is saved as a PNG that says in its own metadata what it shows, as ``Title`` and
``Description``. A model looks at the pixels; the emulator, which sees nothing, reads the words.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

__all__ = ["DRAWINGS", "TEXTS", "Drawing", "draw_all"]

BLUE, ORANGE, GREEN, RED = "#3f72b5", "#e08a2e", "#4f9d58", "#cb4343"
PURPLE, TEAL, YELLOW, GREY = "#8560ac", "#2b9a92", "#edc24a", "#8b919b"
INK, PALE = "#333840", "#e6e8ec"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid.axis": "y",
    "grid.color": PALE,
    "lines.linewidth": 2.2,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}

PLACES = {  # left, bottom, width and height on the sheet, below the title
    "chart": (0.11, 0.12, 0.84, 0.75),
    "round": (0.05, 0.03, 0.9, 0.86),
    "polar": (0.1, 0.1, 0.8, 0.69),
    "diagram": (0.02, 0.02, 0.96, 0.86),
}

TEXTS = (
    "It rains most in November, and hardly at all in July.",
    "An unopened parcel can be returned within thirty days; the shop pays the postage.",
    "Germany buys more of our exports than any other country, and France comes second.",
    "Rent takes a third of the household budget, food a quarter.",
    "Nobody waits long in the morning: most waiting times at the desk are under ten minutes.",
    "French, Spanish and Italian belong to one branch of the family of languages, from Latin.",
    "The roof of the house has to be built before the windows are fitted.",
    "The museum has most of its visitors on Sunday afternoons.",
    "Bake the bread for forty minutes, until the crust is dark.",
    "The treasure lies north of the old volcano, where two palm trees cross.",
    "Change from the red line to the blue line of the underground at the central station.",
    "The club meets on Thursdays; new members are welcome.",
)
"""Short texts; most are about something that one of the drawings shows, and two are not."""


class Drawing(NamedTuple):
    """One picture that can be drawn.

    Attributes:
        name: The name of its file, without the ending.
        title: What it is about; stands above the picture and in its metadata.
        description: What can be seen on it; stands in its metadata.
        kind: ``"chart"`` has axes, ``"polar"`` round ones, ``"round"`` none, and ``"diagram"`` is
            a sheet of paper of 12 by 8.
        draw: What draws it.
    """

    name: str
    title: str
    description: str
    kind: str
    draw: Callable[[Axes], None]

    def save(self, folder: Path) -> Path:
        """Draws the picture, 320 by 240 pixels, into *folder*, and returns its path."""
        path = folder / f"{self.name}.png"
        with rc_context(STYLE):
            figure = Figure(figsize=(3.2, 2.4), dpi=100)
            axes: Any = figure.add_axes(PLACES[self.kind], polar=self.kind == "polar")
            figure.text(
                0.5, 0.92, self.title, ha="center", fontsize=11, fontweight="bold", color=INK
            )
            if self.kind == "diagram":
                axes.set(xlim=(0, 12), ylim=(0, 8), aspect="equal")
                axes.axis("off")
            self.draw(axes)
            words = {"Title": self.title, "Description": self.description}
            figure.savefig(path, metadata=words)
        return path


DRAWINGS: list[Drawing] = []
"""Every drawing, in the order in which they are defined below."""


def draw_all(folder: Path) -> list[Path]:
    """Draws every picture into *folder*, which is made if need be, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [drawing.save(folder) for drawing in DRAWINGS]


_Draw = Callable[[Axes], None]


def drawing(title: str, description: str, kind: str = "chart") -> Callable[[_Draw], _Draw]:
    """Makes a function that draws on axes one of the `DRAWINGS`, under the function's name."""

    def noted(draw: _Draw) -> _Draw:
        name = draw.__name__.replace("_", "-")
        DRAWINGS.append(Drawing(name, title, description, kind, draw))
        return draw

    return noted


def label(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Writes *text* with its middle at *x*, *y*."""
    axes.text(x, y, text, **{"ha": "center", "va": "center", "color": INK, **options})


def box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """Draws a round-cornered box with white *text* in it, around *x*, *y*."""
    corner = (x - 1.45, y - 0.45)
    axes.add_patch(FancyBboxPatch(corner, 2.9, 0.9, boxstyle="round,pad=0.2", fc=colour, ec="none"))
    label(axes, x, y, text, color="white", fontsize=8.5)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], **look: Any) -> None:
    """Draws an arrow from *start* to *end*."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.3, **look})


def dots(axes: Axes, places: Iterable[tuple[float, float]], colour: str, size: float) -> None:
    """Draws a filled circle at each of *places*."""
    for place in places:
        axes.add_patch(Circle(place, size, fc=colour, ec="white", lw=1.2, zorder=3))


# Charts


@drawing("Rain by month", "A blue line chart: millimetres of rain in each month of the year.")
def rain_by_month(axes: Axes) -> None:
    axes.plot(range(12), [62, 55, 48, 40, 33, 21, 9, 14, 38, 66, 92, 75], c=BLUE)
    axes.set_xticks(range(12), list("JFMAMJJASOND"))
    axes.grid(visible=True)


@drawing("Two share prices", "A line chart: the share prices of two rivals, orange and grey.")
def share_prices(axes: Axes) -> None:
    days = np.arange(80)
    steps = np.random.default_rng(8).normal(0, 1, (2, 80)).cumsum(axis=1)
    axes.plot(days, 36 + 0.3 * days + steps[0], c=ORANGE, label="ours")
    axes.plot(days, 52 - 0.1 * days + steps[1], c=GREY, label="theirs")
    axes.set_ylim(20, 70)
    axes.legend(loc="lower right")


@drawing("Exports by country", "A red bar chart: exports to five countries.")
def exports_by_country(axes: Axes) -> None:
    axes.bar(["DE", "FR", "US", "CN", "IT"], [84, 61, 55, 40, 27], color=RED, width=0.65)


@drawing("Harvest by fruit", "A green bar chart with horizontal bars: tonnes of each fruit.")
def harvest_by_fruit(axes: Axes) -> None:
    axes.set_position((0.2, 0.12, 0.75, 0.75))
    axes.barh(["plums", "cherries", "pears", "apples"], [12, 19, 31, 58], color=GREEN)


@drawing(
    "Where power comes from",
    "A stacked bar chart: electric power from wind, sun and gas, in teal, yellow and grey.",
)
def power_mix(axes: Axes) -> None:
    years, below = ["2010", "2015", "2020", "2025"], np.zeros(4)
    parts = {TEAL: [10, 18, 27, 36], YELLOW: [4, 10, 18, 27], GREY: [86, 72, 55, 37]}
    for colour, part in parts.items():
        axes.bar(years, part, bottom=below, color=colour, width=0.6)
        below += part


@drawing(
    "Household budget",
    "A pie chart in many colours: rent, food, travel, savings, the rest.",
    "round",
)
def household_budget(axes: Axes) -> None:
    names, parts = ["rent", "food", "travel", "savings", "rest"], [33, 25, 16, 14, 12]
    axes.pie(parts, labels=names, colors=[BLUE, ORANGE, GREEN, PURPLE, GREY], startangle=90)


@drawing(
    "Answers to a survey",
    "A purple pie chart with a hole, a ring: yes, no and do not know.",
    "round",
)
def survey_answers(axes: Axes) -> None:
    shades = [PURPLE, "#b59dcc", "#ded3e8"]
    axes.pie([58, 29, 13], colors=shades, startangle=90, wedgeprops={"width": 0.42})
    label(axes, 0, 0, "58 %", fontsize=15, fontweight="bold")


@drawing("Height and weight", "A teal scatter plot with a trend line: weight of people by height.")
def height_and_weight(axes: Axes) -> None:
    chance = np.random.default_rng(2)
    height = chance.normal(172, 9, 90)
    weight = 0.9 * height - 85 + chance.normal(0, 6, 90)
    axes.scatter(height, weight, s=14, c=TEAL, alpha=0.65, lw=0)
    ends = np.array([150, 195])
    axes.plot(ends, 0.9 * ends - 85, c=INK, lw=1.4)


@drawing("Rent and size of cities", "A scatter plot with orange bubbles: rent in large cities.")
def rent_in_cities(axes: Axes) -> None:
    people, rent = [1, 2.2, 3.6, 5, 6.4, 8.2], [9, 14, 11, 19, 16, 23]
    axes.scatter(people, rent, s=[60, 160, 260, 420, 340, 720], c=ORANGE, alpha=0.6, ec="white")
    axes.set(xlim=(0, 10), ylim=(4, 29))


@drawing("Waiting times", "A grey histogram: how many minutes people wait at the desk.")
def waiting_times(axes: Axes) -> None:
    minutes = np.random.default_rng(4).gamma(2.2, 3.2, 600)
    axes.hist(minutes, bins=24, range=(0, 24), color=GREY, ec="white", lw=0.6)


@drawing("Exam results", "A box plot in purple: the results of four classes in an exam.")
def exam_results(axes: Axes) -> None:
    results = [np.random.default_rng(seed).normal(55 + 4 * seed, 9, 40) for seed in range(4)]
    axes.boxplot(
        results,
        patch_artist=True,
        widths=0.55,
        boxprops={"facecolor": "#c9b7da", "edgecolor": PURPLE},
        medianprops={"color": PURPLE, "linewidth": 2},
        whiskerprops={"color": PURPLE},
        capprops={"color": PURPLE},
        flierprops={"marker": ".", "markeredgecolor": PURPLE},
    )
    axes.set_xticks(range(1, 5), list("ABCD"))


@drawing("Visitors of the museum", "A red heat map: visitors by day of the week and by hour.")
def museum_visitors(axes: Axes) -> None:
    hours, days = np.meshgrid(np.arange(10), np.arange(7))
    crowd = np.exp(-((hours - 5.5) ** 2) / 9) * (1 + (days > 4) * 1.6 + days / 12)
    axes.pcolormesh(crowd, cmap="Reds", ec="white", lw=0.8)
    axes.set_yticks(np.arange(7) + 0.5, list("MTWTFSS"))
    axes.set_xticks([0.5, 4.5, 8.5], ["9 h", "13 h", "17 h"])
    axes.invert_yaxis()


@drawing("Traffic on a web site", "A green area chart: page views over the weeks, growing.")
def web_traffic(axes: Axes) -> None:
    weeks = np.arange(52)
    views = 20 + 1.1 * weeks + 7 * np.sin(weeks / 3)
    axes.fill_between(weeks, views, color=GREEN, alpha=0.35, lw=0)
    axes.plot(weeks, views, c=GREEN)
    axes.set_ylim(0)


@drawing("Two players", "A radar chart, blue and red: the skills of two players.", "polar")
def two_players(axes: Axes) -> None:
    angles = np.linspace(0, 2 * np.pi, 7)
    for colour, skills in {BLUE: [8, 5, 7, 9, 4, 6], RED: [5, 8, 6, 4, 8, 7]}.items():
        axes.plot(angles, [*skills, skills[0]], c=colour, lw=1.8)
        axes.fill(angles, [*skills, skills[0]], color=colour, alpha=0.2)
    axes.set_xticks(angles[:-1], ["speed", "pass", "shot", "run", "head", "goal"], fontsize=7)
    axes.set_yticklabels([])


@drawing("Price of copper", "A candlestick chart, green and red: the price of copper by day.")
def copper_price(axes: Axes) -> None:
    chance, opened = np.random.default_rng(12), 50.0
    for day in range(24):
        closed = opened + chance.normal(0.3, 2)
        colour = GREEN if closed >= opened else RED
        low, high = min(opened, closed), max(opened, closed)
        axes.vlines(day, low - chance.uniform(0, 2), high + chance.uniform(0, 2), colour, lw=1)
        axes.vlines(day, low, high, colour, lw=5)
        opened = closed


@drawing("A note and its echo", "A blue wave: the sound of a note that fades, over time.")
def note_and_echo(axes: Axes) -> None:
    time = np.linspace(0, 1, 900)
    sound = np.sin(90 * time) * np.exp(-5 * time)
    sound[450:] += 0.6 * sound[:450]
    axes.plot(time, sound, c=BLUE, lw=1.3)
    axes.axhline(0, c=GREY, lw=0.6)


# Diagrams


@drawing(
    "Returning a parcel",
    "A flow chart in blue and orange: boxes and arrows for how a parcel is returned to the shop.",
    "diagram",
)
def returning_a_parcel(axes: Axes) -> None:
    box(axes, 6, 7, "parcel", BLUE)
    box(axes, 6, 4.4, "opened?", ORANGE)
    box(axes, 2.3, 1.2, "keep it", BLUE)
    box(axes, 9.7, 1.2, "send back", BLUE)
    arrow(axes, (6, 6.3), (6, 5.2))
    arrow(axes, (5, 3.7), (2.8, 2))
    arrow(axes, (7, 3.7), (9.2, 2))
    label(axes, 3.2, 3.1, "yes", fontsize=8)
    label(axes, 8.9, 3.1, "no", fontsize=8)


@drawing(
    "A family of languages",
    "A green tree diagram: Latin and the languages that came from it, French, Spanish, Italian.",
    "diagram",
)
def family_of_languages(axes: Axes) -> None:
    for x, name in ((2, "French"), (6, "Spanish"), (10, "Italian")):
        axes.plot([6, 6, x, x], [6.5, 4.2, 4.2, 2], c=GREEN, lw=1.6, zorder=0)
        box(axes, x, 1.7, name, GREEN)
    box(axes, 6, 6.5, "Latin", GREEN)


@drawing(
    "Friends in a club",
    "A network diagram with purple circles: who is a friend of whom among the members of a club.",
    "diagram",
)
def friends_in_a_club(axes: Axes) -> None:
    chance = np.random.default_rng(9)
    turn = np.linspace(0, 2 * np.pi, 11)[:-1]
    places = [(6 + 4.6 * np.cos(a), 3.8 + 3.2 * np.sin(a)) for a in turn]
    for one, two in {tuple(sorted(chance.choice(10, 2, replace=False))) for _ in range(22)}:
        axes.plot(*zip(places[one], places[two], strict=True), c=GREY, lw=1, zorder=1)
    dots(axes, places, PURPLE, 0.55)


@drawing(
    "Building a house",
    "A Gantt chart in teal: the weeks for walls, roof, windows and paint of a new house.",
    "diagram",
)
def building_a_house(axes: Axes) -> None:
    axes.vlines(np.arange(3.6, 12, 1.6), 0.4, 7.6, PALE, lw=1, zorder=0)
    for row, (work, start, length) in enumerate(
        [("walls", 3.6, 3.2), ("roof", 6.2, 2.2), ("windows", 7.8, 1.8), ("paint", 9, 2.6)]
    ):
        y = 6.6 - 1.7 * row
        axes.add_patch(Rectangle((start, y - 0.45), length, 0.9, fc=TEAL))
        label(axes, 3.1, y, work, ha="right")


@drawing(
    "Cats and dogs",
    "A Venn diagram, blue and yellow circles: people who have cats, dogs, or both.",
    "diagram",
)
def cats_and_dogs(axes: Axes) -> None:
    for x, colour in ((4.3, BLUE), (7.7, YELLOW)):
        axes.add_patch(Circle((x, 3.8), 3.3, fc=colour, alpha=0.55, ec="none"))
    for x, name in ((2.8, "cats"), (6, "both"), (9.2, "dogs")):
        label(axes, x, 3.8, name, fontsize=10)


@drawing(
    "Treasure island",
    "A map of a green island in a blue sea, with a volcano and a red cross for the treasure.",
    "diagram",
)
def treasure_island(axes: Axes) -> None:
    turn = np.linspace(0, 2 * np.pi, 60)
    shore = 1 + 0.13 * np.sin(3 * turn) + 0.08 * np.cos(5 * turn + 1)
    axes.add_patch(Rectangle((0, 0), 12, 8, fc="#a9cfe8"))
    axes.add_patch(
        Polygon(np.c_[6 + 4.4 * shore * np.cos(turn), 4 + 2.9 * shore * np.sin(turn)], fc="#9ccf8f")
    )
    axes.add_patch(Polygon([(3.4, 2.6), (5, 5.2), (6.6, 2.6)], fc="#8a6f5c"))
    axes.add_patch(Polygon([(4.57, 4.5), (5, 5.2), (5.43, 4.5)], fc=RED))
    axes.plot([5.6, 6.6, 7.4, 8.1], [5.4, 5.8, 5.3, 4.6], c=INK, ls=":", lw=1.8)
    axes.plot(8.4, 4.2, marker="x", ms=11, mew=3.5, c=RED)


@drawing(
    "The underground",
    "A map of underground lines: the red line, the blue line, the green line and their stations.",
    "diagram",
)
def underground(axes: Axes) -> None:
    lines = {
        RED: [(0.5, 3.8), (3, 3.8), (6, 3.8), (9, 3.8), (11.5, 3.8)],
        BLUE: [(1.5, 7), (3.5, 6.3), (6, 3.8), (8.5, 1.3), (10.5, 0.6)],
        GREEN: [(1.5, 0.6), (3.5, 1.3), (6, 3.8), (8.5, 6.3), (10.5, 7)],
    }
    for colour, stations in lines.items():
        axes.plot(*zip(*stations, strict=True), c=colour, lw=4, zorder=1)
        dots(axes, stations, colour, 0.32)
    axes.add_patch(Circle((6, 3.8), 0.6, fc="white", ec=INK, lw=2, zorder=4))


@drawing(
    "A history of flight",
    "A timeline in orange: balloon, glider, aeroplane, jet and the landing on the moon.",
    "diagram",
)
def history_of_flight(axes: Axes) -> None:
    axes.plot([0.4, 11.6], [3.8, 3.8], c=GREY, lw=2.5, zorder=0)
    events = {1783: "balloon", 1891: "glider", 1903: "aeroplane", 1939: "jet", 1969: "moon"}
    for place, (year, what) in enumerate(events.items()):
        x, side = 1.4 + 2.3 * place, 1 if place % 2 else -1
        dots(axes, [(x, 3.8)], ORANGE, 0.42)
        label(axes, x, 3.8 + 1.3 * side, f"{year}", fontsize=8.5, fontweight="bold")
        label(axes, x, 3.8 + 2.3 * side, what, fontsize=8.5)


@drawing(
    "A flat with three rooms",
    "A floor plan in grey: the kitchen, the bath and the bedroom of a flat, with doors.",
    "diagram",
)
def flat_with_three_rooms(axes: Axes) -> None:
    for corner, width, height in (((1, 0.5), 6, 7), ((7, 0.5), 4, 3), ((7, 3.5), 4, 4)):
        axes.add_patch(Rectangle(corner, width, height, fc="#f3f4f6", ec=INK, lw=2.5))
    for x, y, name in ((4, 4, "bedroom"), (9, 2, "bath"), (9, 5.6, "kitchen")):
        label(axes, x, y, name)
    axes.vlines([7, 7], [1.4, 4.3], [2.6, 5.5], "#f3f4f6", lw=4)


@drawing(
    "Signing in",
    "A sequence diagram in blue: messages between a browser, a server and a store of passwords.",
    "diagram",
)
def signing_in(axes: Axes) -> None:
    for x, name in ((2, "browser"), (6, "server"), (10, "store")):
        axes.vlines(x, 0.2, 6.2, GREY, ls="--", lw=1.1)
        box(axes, x, 6.9, name, BLUE)
    for start, end, y in ((2, 6, 5.2), (6, 10, 4), (10, 6, 2.6), (6, 2, 1.4)):
        arrow(axes, (start, y), (end, y), ls="-" if end > start else "--")


@drawing(
    "Traffic light",
    "A state diagram: circles in red, yellow and green, and arrows from one light to the next.",
    "diagram",
)
def traffic_light(axes: Axes) -> None:
    places = {RED: (2, 4), YELLOW: (6, 4), GREEN: (10, 4)}
    for colour, place in places.items():
        dots(axes, [place], colour, 1.3)
    for one, two, bend in ((RED, GREEN, -0.45), (GREEN, YELLOW, -0.6), (YELLOW, RED, -0.6)):
        arrow(
            *(axes, places[one], places[two]),
            shrinkA=24,
            shrinkB=24,
            connectionstyle=f"arc3,rad={bend}",
        )


@drawing(
    "The inner planets",
    "A diagram of orbits: a yellow sun and four planets around it, grey, orange, blue and red.",
    "diagram",
)
def inner_planets(axes: Axes) -> None:
    for away, turn, colour in (
        (1.4, 0.6, GREY),
        (2.1, 3.6, ORANGE),
        (2.9, 5.4, BLUE),
        (3.7, 2, RED),
    ):
        axes.add_patch(Circle((6, 3.9), away, fc="none", ec=GREY, lw=0.8))
        dots(axes, [(6 + away * np.cos(turn), 3.9 + away * np.sin(turn))], colour, 0.38)
    dots(axes, [(6, 3.9)], YELLOW, 0.85)


@drawing("Ten past ten", "A clock face in teal whose hands show ten past ten.", "diagram")
def ten_past_ten(axes: Axes) -> None:
    axes.add_patch(Circle((6, 4), 3.7, fc="white", ec=TEAL, lw=4))
    for hour in range(12):
        x, y = np.sin(hour * np.pi / 6), np.cos(hour * np.pi / 6)
        axes.plot([6 + 3 * x, 6 + 3.3 * x], [4 + 3 * y, 4 + 3.3 * y], c=INK, lw=1.8)
    axes.plot([6, 4.3], [4, 5.1], c=INK, lw=4, solid_capstyle="round")
    axes.plot([6, 8.3], [4, 5.3], c=INK, lw=2.5, solid_capstyle="round")


@drawing(
    "A mountain",
    "A map with brown contour lines: the height of a mountain with two tops.",
    "round",
)
def mountain(axes: Axes) -> None:
    x, y = np.meshgrid(np.linspace(-3, 3, 120), np.linspace(-2, 2, 90))
    height = np.exp(-((x - 1) ** 2) - y**2) + 0.8 * np.exp(-((x + 1) ** 2) / 1.4 - (y - 0.3) ** 2)
    axes.contourf(x, y, height, 9, cmap="YlOrBr", alpha=0.6)
    axes.contour(x, y, height, 9, colors="#8a5a2b", linewidths=0.8)
    axes.set(xticks=[], yticks=[])
