"""Draws captions and the attention at each word.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, figure 5.
"""

import math

import numpy as np

from keras_aoa.visualization.canvas import (
    BLUE,
    GRAY,
    SMALLEST_TEXT,
    VERMILION,
    Page,
    Style,
    blocks_height,
    shrink,
    text_width,
    wrap,
)
from keras_aoa.visualization.panel import (
    View,
    check_image,
    regions_of,
    resize,
    window_of,
    window_slices,
)

MARGIN, GAP = 24, 14
CAPTION, WORD = Style(21, "bold"), Style(16, "bold")
SHEET_CAPTION, NOTE = Style(15, "bold"), Style(13, color=GRAY)
NO_WORDS = "(no words)"
UNIFORM = 1e-6  # difference between the weights of regions; systems without attention have less
LABEL = 22  # height of the word above its panel

PANEL_SIDE, PANEL_WIDTH, PANEL_HEIGHT = 224, 448, 320
NARROWEST_CELL = 112  # so that the word above a tall photograph's panel stays legible
NARROWEST, WIDEST, ASPECT = 480, 1700, 1.7

SHEET_WIDTH, SHEET_HEIGHT, SHEET_GAP = 280, 210, 24
README_WIDTH, README_HEIGHT, README_CAPTION = 1200, 280, 34


def attention_picture(image, caption, path=None, title=None):
    """Draw a photograph, its caption, and for each word a panel that shows the word's attention.

    Args:
        image: The upright original, a uint8 array `(h, w, 3)`.
        caption: `Caption` with attention.
        path: PNG file to write, or None.
        title: A line above the caption, such as the file's name.

    Returns:
        The picture, a uint8 array `(height, width, 3)`. A word's panel highlights each region in
        proportion to its weight, which is spread evenly over the region's area. Outlines mark the
        strongest regions. The width of an outline is proportional to the region's weight.

    Raises:
        ValueError: the image or the attention is not valid.
        OSError: the file cannot be written. No partial file remains.

    Source: figure 5.
    """
    check_image(image, "attention_picture")
    attention, boxes = regions_of(caption, "attention_picture")
    height, width = image.shape[:2]
    scale = min(PANEL_SIDE / math.sqrt(height * width), PANEL_WIDTH / width, PANEL_HEIGHT / height)
    view = View(image, window_of(caption), scale)
    cell_width = max(view.width, NARROWEST_CELL) + GAP
    cell_height = LABEL + view.height + GAP
    columns = column_count(1 + len(caption.words), cell_width, cell_height)
    rows = math.ceil((1 + len(caption.words)) / columns)

    inner_width = max(columns * cell_width - GAP, NARROWEST)
    log_prob = f"{caption.log_prob:.2f}".replace("-", "\N{MINUS SIGN}")
    head = [
        (wrap(title or "", NOTE, inner_width, 1), NOTE),
        (wrap(caption.text or NO_WORDS, CAPTION, inner_width, 4), CAPTION),
        ([f"log-probability {log_prob}"], NOTE),
    ]
    legend = ["highlighted: attention at the word", "outlined: strongest regions"]
    if attention.size and np.ptp(attention, axis=1).max() < UNIFORM:
        legend = [f"uniform attention: equal weights on all {len(boxes)} regions"]
    legend = legend if caption.words else []
    if not view.is_whole:
        legend.append("pale: outside the network input")
    foot = [(wrap("  ·  ".join(legend), NOTE, inner_width, 2), NOTE)]
    top = MARGIN + blocks_height(head) + GAP // 2
    bottom = top + rows * cell_height
    page = Page(inner_width + 2 * MARGIN, bottom + blocks_height(foot) + MARGIN - GAP)
    page.write_blocks(head, MARGIN, MARGIN)
    page.write_blocks(foot, MARGIN, bottom)
    page.write("image", MARGIN, top + WORD.size, NOTE)
    page.place(view.photograph, MARGIN, top + LABEL)
    for number, panel in enumerate(word_panels(view, caption.words, attention, boxes), start=1):
        row, column = divmod(number, columns)
        draw_panel(page, MARGIN + column * cell_width, top + row * cell_height, *panel)
    return page.finish(path)


def column_count(panels, cell_width, cell_height):
    """Choose a number of columns with few empty cells and an aspect ratio near `ASPECT`."""

    def cost(columns):
        rows = math.ceil(panels / columns)
        aspect = columns * cell_width / (rows * cell_height)
        return abs(math.log(aspect / ASPECT)) + rows * columns / panels

    return min(range(1, 1 + max(1, min(panels, WIDEST // cell_width))), key=cost)


def word_panels(view, words, attention, boxes):
    """Return each word with its panel and its outlines."""
    return zip(
        words, view.highlight(attention, boxes), view.outlines(attention, boxes), strict=True
    )


def draw_panel(page, left, top, word, panel, outlines):
    """Draw a word, the word's panel below it, and outlines on the panel."""
    height, width = panel.shape[:2]
    text, style = shrink(word, WORD, max(width, NARROWEST_CELL))
    page.write(text, left, top + WORD.size, style)
    page.place(panel, left, top + LABEL)
    for corners, line_width in outlines:
        frame = (left, top + LABEL, left + width, top + LABEL + height)
        page.outline(np.add(corners, frame[:2]), line_width, frame)


def contact_sheet(items, path=None, columns=4):
    """Draw several photographs in rows, each with its caption.

    Args:
        items: A tuple `(image, caption, references)` for each photograph. `image` is a uint8 array
            `(h, w, 3)`. `caption` is text. `references` is a list of human captions, which may be
            empty. Human captions are written in gray below the caption.
        path: PNG file to write, or None.
        columns: Number of photographs per row.

    Returns:
        The picture, a uint8 array `(height, width, 3)`.

    Raises:
        ValueError: `items` is empty, `columns` is below 1, or an image is not valid.
        OSError: the file cannot be written. No partial file remains.
    """
    cells = []
    for image, caption, references in items:
        check_image(image, "contact_sheet")
        small = resize(image, min(SHEET_WIDTH / image.shape[1], SHEET_HEIGHT / image.shape[0]))
        texts = [(wrap(caption or NO_WORDS, SHEET_CAPTION, SHEET_WIDTH, 3), SHEET_CAPTION)]
        texts += [(wrap(reference, NOTE, SHEET_WIDTH, 2), NOTE) for reference in references]
        cells.append((small, texts))
    if not cells or columns < 1:
        raise ValueError(
            "contact_sheet: expected at least one item and one column, "
            f"received {len(cells)} and {columns}."
        )
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    above = [max(len(small) for small, _ in row) + GAP // 2 for row in rows]
    below = [max(blocks_height(texts) for _, texts in row) + GAP for row in rows]
    cell_width = SHEET_WIDTH + SHEET_GAP
    page = Page(
        2 * MARGIN + columns * cell_width - SHEET_GAP, 2 * MARGIN + sum(above + below) - GAP
    )
    top = MARGIN
    for row, row_above, row_below in zip(rows, above, below, strict=True):
        for column, (small, texts) in enumerate(row):
            left = MARGIN + column * cell_width
            page.place(small, left, top + row_above - GAP // 2 - len(small))
            page.write_blocks(texts, left, top + row_above)
        top += row_above + row_below
    return page.finish(path)


def readme_picture(items, path=None):
    """Draw two or three captioned photographs, with the attention at some words of each caption.

    Args:
        items: A tuple `(image, caption, words)` for each photograph. `image` is the upright
            original, `caption` is a `Caption` with attention, and `words` are the indices of three
            to five words. Photographs are cropped to the part that the network input covers.
        path: PNG file to write, or None.

    Returns:
        The picture, a uint8 array `(height, README_WIDTH, 3)`.

    Raises:
        ValueError: `items` is empty, or an image, an attention or a word in it is not valid.
        OSError: the file cannot be written. No partial file remains.
    """
    rows = []
    for image, caption, words in items:
        check_image(image, "readme_picture")
        attention, boxes = regions_of(caption, "readme_picture")
        if not set(words) <= set(range(len(caption.words))):
            raise ValueError(
                f"readme_picture: expected indices of the {len(caption.words)} words of "
                f"'{caption.text}', received {list(words)}."
            )
        window = np.clip(window_of(caption), 0, 1)
        cropped = image[window_slices(window, image)]
        room = (README_WIDTH - 2 * MARGIN + GAP) / (1 + len(words)) - GAP
        scale = min(room / cropped.shape[1], README_HEIGHT / cropped.shape[0])
        view = View(cropped, (0, 0, 1, 1), scale)
        boxes = (boxes - window[:2]) / (window[2:] - window[:2])
        chosen = [caption.words[word] for word in words]
        panels = word_panels(view, chosen, attention[list(words)], boxes)
        rows.append((view, caption.words, set(words), panels))
    if not rows:
        raise ValueError("readme_picture: expected two or three items, received none.")
    heights = [README_CAPTION + LABEL + view.height + 2 * GAP for view, *_ in rows]
    page = Page(README_WIDTH, 2 * MARGIN + sum(heights) - 2 * GAP)
    top = MARGIN
    for row_height, (view, words, shown, panels) in zip(heights, rows, strict=True):
        write_emphasized(page, words, shown, top)
        panels_top = top + README_CAPTION
        page.place(view.photograph, MARGIN, panels_top + LABEL)
        for number, panel in enumerate(panels, start=1):
            draw_panel(page, MARGIN + number * (view.width + GAP), panels_top, *panel)
        top += row_height
    return page.finish(path)


def write_emphasized(page, words, shown, top):
    """Write a caption across the page. Words whose index is in `shown` are bold."""
    for size in range(CAPTION.size, SMALLEST_TEXT - 1, -1):
        plain, bold = Style(size, color=GRAY), Style(size, "bold")
        styles = [bold if number in shown else plain for number in range(len(words))]
        widths = [
            text_width(word, style) + size / 3 for word, style in zip(words, styles, strict=True)
        ]
        if sum(widths) < README_WIDTH - 2 * MARGIN:
            break
    left = MARGIN
    for word, style, width in zip(words, styles, widths, strict=True):
        page.write(word, left, top + CAPTION.size, style)
        left += width


def curves_picture(history, path=None):
    """Draw the training curves of the loss and of CIDEr on the validation split.

    The epoch with the best CIDEr is marked.

    Args:
        history: A dictionary `{"epoch", "loss", "CIDEr", …}` for each epoch. "CIDEr" is on
            coco-caption's scale and is drawn times 100. Epochs without validation have no "CIDEr".
        path: PNG file to write, or None.

    Returns:
        The picture, a uint8 array `(height, width, 3)`.

    Raises:
        ValueError: `history` is empty.
        OSError: the file cannot be written. No partial file remains.
    """
    if not history:
        raise ValueError("curves_picture: expected at least one epoch, received none.")
    page = Page(1000, 380)
    epochs = (history[0]["epoch"], history[-1]["epoch"])
    panels = (
        ("loss", "Loss, nats per word", BLUE, 1),
        ("CIDEr", "CIDEr \N{MULTIPLICATION SIGN} 100", VERMILION, 100),
    )
    for number, (key, label, color, factor) in enumerate(panels):
        points = [
            (entry["epoch"], entry[key] * factor)
            for entry in history
            if entry.get(key) is not None and math.isfinite(entry[key])
        ]
        best = max(points, key=lambda point: point[1]) if key == "CIDEr" and points else None
        page.plot(points, (60 + number * 490, 55, 420, 265), label, color, epochs, best)
    return page.finish(path)
