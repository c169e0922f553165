"""Self-contained HTML pages: a style, plots inside the file, nothing fetched."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa_actions.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption, .note { color: #555; font-size: .9rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid #ddd; padding: .25rem .8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
"""
BLUE, GREY, LIGHT, ORANGE = "#2364aa", "#8d99ae", "#cfd6e1", "#d1603d"


def write_html(path: str | Path, title: str, body: Iterable[str]) -> Path:
    """Write a page, folders made as needed. Raises ConfigError where that cannot be."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{head}<style>{STYLE}</style>" + "\n".join(body) + "</html>\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    """A figure of so many inches, without a window, and its axes, always in two dimensions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def picture(figure: "Figure", caption: str) -> str:
    """A figure inside the page, with HTML below it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img alt="" src="data:image/png;base64,{encoded}"><figcaption>{caption}</figcaption></figure>'


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts, which are escaped."""
    top = "".join(f"<th>{html.escape(text)}" for text in head)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(text)}" for text in row) for row in rows)
    return f"<table><tr>{top}{lines}</table>"
