"""How names and numbers are written for people."""

from __future__ import annotations

from anneal.cli.report.model import Cell, Number

_METRICS = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "perplexity": "perplexity",
    "length": "length, tokens",
    "latency": "latency, s",
}
UNKNOWN = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def metric_label(metric: str) -> str:
    """The metric's name and unit."""
    return _METRICS.get(metric, metric.replace("_", " "))


def number(value: float | None, metric: str = "") -> str:
    """A metric's value with the digits that mean something; a dash for what is unknown."""
    if value is None:
        return UNKNOWN
    if metric in {"length", "latency", "perplexity"}:
        text = f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    else:
        text = f"{value:.3f}"
    return text.replace("-", MINUS)


def interval(estimate: Number, metric: str = "", *, signed: bool = False) -> str:
    """The 95 % interval in brackets; empty when there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = number(estimate.low, metric), number(estimate.high, metric)
    if signed:
        low, high = sign(estimate.low, low), sign(estimate.high, high)
    return f"[{low}, {high}]"


def sign(value: float, text: str) -> str:
    """The text with a plus in front when the value is above zero."""
    return f"+{text}" if value > 0 else text


def gain(cell: Cell) -> str:
    """The paired gain with its interval; for perplexity in nats per token."""
    if cell.gain is None or cell.gain.value is None:
        return ""
    metric = "" if cell.metric == "perplexity" else cell.metric
    value = sign(cell.gain.value, number(cell.gain.value, metric))
    return f"{value} {interval(cell.gain, metric, signed=True)}".strip()


def direction(cell: Cell) -> str:
    """What the gain's interval says: better, worse, or neither for sure."""
    if cell.gain is None or cell.gain.low is None or cell.gain.high is None:
        return ""
    if cell.gain.low > 0:
        return "better"
    return "worse" if cell.gain.high < 0 else "open"


def quantity(value: float | None, unit: str = "") -> str:
    """A quantity of a plan: whole numbers whole, others with three digits."""
    if value is None:
        return UNKNOWN
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def short_digest(digest: str) -> str:
    """The first 12 hex digits, as in a version's id."""
    return digest.removeprefix("sha256:")[:12]


def last(name: str) -> str:
    """The id at the end of a resource name, with its version where it has one."""
    parts = name.split("/")
    return f"{parts[-3]}@{parts[-1]}" if len(parts) >= 3 and parts[-2] == "versions" else parts[-1]
