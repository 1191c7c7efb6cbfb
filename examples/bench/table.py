"""The table of what was measured, and the picture of it."""

import statistics

HEAD = ["case", "unit", "streamd", "limit", "of the limit", "Flink 2.3", "Flink's of ours", "aim", "reached"]

# What a page has around its measured part.
BEGIN, END = "<!-- measured -->", "<!-- end -->"


class Figure:
    """One row: a figure, the limit that was measured by turns with it, what Flink took on another day, and the aim of one kind:
    `aim` is at most so many times the limit, `most` at most so much, `least` at least so much."""

    def __init__(self, name, unit, flink=None, aim=None, most=None, least=None):
        self.name, self.unit, self.flink, self.aim, self.most, self.least = name, unit, flink, aim, most, least
        self.values, self.limits = [], []

    def value(self):
        return statistics.median(self.values)

    def limit(self):
        return statistics.median(self.limits) if self.limits else None

    def goal(self):
        """The aim in words, and whether it is reached."""
        if self.aim:
            return f"≤ {self.aim} × the limit", self.value() <= self.aim * self.limit()
        if self.most:
            return f"≤ {self.most:.3g}", self.value() <= self.most
        if self.least:
            return f"≥ {self.least:.3g}", self.value() >= self.least
        return "", None

    def row(self):
        value, limit, (aim, reached) = self.value(), self.limit(), self.goal()
        spread = f" ({min(self.values):.3g} – {max(self.values):.3g})" if len(self.values) > 1 else ""
        return [
            self.name,
            self.unit,
            f"{value:.3g}{spread}",
            f"{limit:.3g}" if limit else "",
            f"{value / limit:.2f}" if limit else "",
            f"{self.flink:g}" if self.flink else "",
            f"{self.flink / value:.1f}" if self.flink and value else "",
            aim,
            "" if reached is None else "yes" if reached else "**no**",
        ]


def markdown(figures):
    lines = [HEAD, ["---"] * len(HEAD), *(figure.row() for figure in figures)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def insert(page, text):
    """Puts a text into a page, between the marks for what was measured; page and folder are made where there are none."""
    page.parent.mkdir(parents=True, exist_ok=True)
    before, _, rest = (page.read_text() if page.exists() else "").partition(BEGIN)
    after = rest.partition(END)[2] or "\n"
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def picture(plot_of, file):
    """Has `plot_of` draw into a new picture, and writes it."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plot

    figure = plot_of(plot)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def draw(figures, file):
    """Bars of each case that tells CPU nanoseconds, on a scale of powers of ten."""
    shown = [figure for figure in figures if figure.unit.startswith("CPU ns")]
    height = 0.26
    bars = [
        ("limit", "#9aa5b1", [figure.limit() or 0 for figure in shown]),
        ("streamd", "#1f6feb", [figure.value() for figure in shown]),
        ("Flink 2.3, its best tuning, another day", "#d0743c", [figure.flink or 0 for figure in shown]),
    ]

    def plot_of(plot):
        drawn, axes = plot.subplots(figsize=(9, 0.55 * len(shown) + 1.5))
        for place, (label, colour, values) in enumerate(bars):
            axes.barh([row + place * height for row in range(len(shown))], values, height, label=label, color=colour)
        axes.set_yticks([row + height for row in range(len(shown))], [figure.name for figure in shown])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel("CPU nanoseconds for each event (or word)")
        axes.legend(loc="lower right", fontsize="small")
        return drawn

    if shown:
        picture(plot_of, file)
