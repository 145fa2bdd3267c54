"""How a class is drawn: a colour each, which colour-blind eyes tell apart where the classes are few."""

MUTED = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#767676")
"""Paul Tol, Colour schemes, 2021: `muted`, with its pale grey darkened for points on white paper."""
BRIGHTEST = 0.92  # of the sequence of many classes: beyond it yellow is lost on white
HALF_BRIGHT = 0.45  # luminance


def class_colours(n: int) -> list[str]:
    """Beyond ten they come from a sequence, where neighbours are alike."""
    if n <= len(MUTED):
        return list(MUTED[:n])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["cividis"](BRIGHTEST * k / (n - 1))) for k in range(n)]


def ink_on(colour: str) -> str:
    """White or black, whichever is seen better on it."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > HALF_BRIGHT else "#ffffff"
