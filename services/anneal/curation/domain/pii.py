"""Find personal data and secrets in texts: by their form, and by their check digits where they have any.

Rules are made for precision: a number is no phone number because it has ten digits. What a rule cannot tell from an
order id, a version or a timestamp is not found; names of people are not looked for at all.

Sources: payment cards ISO/IEC 7812-1 (Luhn, issuer ranges); IBAN ISO 13616 (lengths of its registry, mod 97 of ISO
7064); telephone numbers ITU-T E.164 and the North American Numbering Plan; public addresses as `ipaddress` has them
from IANA's registries (only those are personal, as FineWeb has it: Penedo et al. 2024, arXiv:2406.17557); forms of keys
as their issuers document them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

PiiKind = Literal["secret", "email", "iban", "card", "ip", "phone", "address"]
# Where finds overlap, the kind that stands first here has it.
PII_KINDS: tuple[PiiKind, ...] = get_args(PiiKind)


@dataclass(frozen=True, slots=True)
class Found:
    """A find.

    Attributes:
        kind: what it is.
        start: its first character.
        end: one past its last character.
    """

    kind: PiiKind
    start: int
    end: int


def suspects_of(texts: pa.Array, kinds: Sequence[PiiKind]) -> dict[int, list[PiiKind]]:
    """The places of all texts that can hold something, and of some that do not, with the kinds each can hold."""
    suspects: dict[int, list[PiiKind]] = {}
    # One pattern for each kind: RE2's automaton for all together outgrows its memory, and then it is far slower.
    for kind in kinds:
        for place in pc.indices_nonzero(pc.match_substring_regex(texts, _ROUGH[kind])).to_pylist():
            suspects.setdefault(place, []).append(kind)
    return suspects


def find_pii(text: str, kinds: Sequence[PiiKind]) -> list[Found]:
    """What a text holds, in its order; finds do not overlap."""
    found: list[Found] = []
    taken = bytearray(len(text))
    for kind in PII_KINDS:
        for start, end in _FINDERS[kind](text) if kind in kinds else ():
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                found.append(Found(kind, start, end))
    return sorted(found, key=lambda one: one.start)


Span = tuple[int, int]

_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w+%-](?:[\w.+%-]{0,62}[\w+%-])?@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}"
    # git@host:path is where a repository stands, not whom to write to.
    r"(?![\w-]|@|:[\w~/])"
)
_SECRETS = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s,:.\\]|-(?!-)){16,20000}"
    r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
    r"|(?<![\w-])(?:(?:AKIA|ASIA)[A-Z2-7]{16}"  # AWS access key ids
    r"|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,251}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,250}|xapp-[A-Za-z0-9-]{20,250}"  # Slack
    r"|sk-[A-Za-z0-9_-]{20,250}|[sr]k_live_[A-Za-z0-9]{16,250}"  # OpenAI and alike, Stripe
    r"|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{34}"  # Google, Hugging Face
    r"|eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,4000})(?![\w-])"  # JWT, RFC 7519
)
_IBAN_START = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?= ?[A-Z0-9])")
_IBAN_REST = {length: re.compile(rf"(?: ?[A-Z0-9]){{{length - 4}}}(?!\w)") for length in range(15, 35)}
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "PT ST",
        26: "IS TR", 27: "FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU",
        31: "MT SC", 32: "LC",
    }.items()
    for country in countries.split()
}  # fmt: skip
_CARD = re.compile(
    r"(?<![\w.,+-])(?:\d{13,19}|\d{4}(?P<by>[ -])\d{4}(?P=by)\d{4}(?P=by)\d{4}(?:(?P=by)\d{3})?"
    r"|\d{4}(?P<of>[ -])\d{6}(?P=of)\d{4,5})(?![\w-]|[.,]\d| \d)"
)
_CARD_RANGES = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|65\d\d|64[4-9]\d|62\d\d)\d{12,15}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\w.,+~-]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w-]|\.\w)")
# Global unicast is 2000::/3 (RFC 4291): `a::b` in code is not.
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")
_NO_ADDRESS = re.compile(
    r"(?:\b(?:v|ver|versions?|release|build|firmware|driver|section|sec|chapter|clause|figure|table|rule)\b[.:=\s]*"
    r"|[§=<>~^]\s?|(?<![/:])/)$",
    re.I,
)
_DIGITS = r"(?:[ .()/-]{0,2}\d)"
_PHONE = re.compile(
    rf"(?<![\w+.,)-])\+(?=[1-9(])\(?[1-9]{_DIGITS}{{7,14}}(?![\w+]|[.,]\d)"
    r"|(?<![\w.,+/-])(?:\+?1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d(?P<by>[ .-]))[2-9]\d\d(?(by)(?P=by)|[ .-])\d{4}"
    r"(?![\w-]|[.,]\d)"
    r"|(?i:\b(?:tel|telephone|phone|mobile|cell(?:phone)?|fax|whatsapp|telefon|handy|tél|téléphone|teléfono|móvil)\b)"
    rf"(?i:[ ]?(?:no|number|nr|nummer)\b)?\.?[ ]{{0,2}}[:#]?[ ]{{0,2}}"
    rf"(?P<labelled>\(?\d{_DIGITS}{{6,14}})(?![\w-]|[.,]\d)"
)
_NO_PHONE = re.compile(
    r"\b(?:order|invoice|ticket|case|ref|reference|id|isbn|issn|sku|part|serial|item|no|number)\b[ .:#]*$", re.I
)
_STREET = (
    r"Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|Boulevard|Blvd\.?|Lane|Ln\.?|Drive|Dr\.?|Court|Ct\.?|Place|Pl\.?|Square"
    r"|Sq\.?|Way|Parkway|Pkwy\.?|Terrace|Highway|Hwy\.?|Circle|Cir\.?"
)
# A street with its house number counts only with a postcode after it.
_ADDRESS = re.compile(
    rf"(?<![\w.,-])\d{{1,5}}[A-Za-z]? (?:(?:[NSEW]\.?|[A-Z][\w'\u2019.]{{1,20}}) ){{1,4}}?(?:{_STREET})(?![\w'])"
    r"(?:[^\n\d]|\d(?!\d{4})){0,50}?\n?(?:[^\n\d]|\d(?!\d{4})){0,40}?"
    r"\b(?:[A-Z]{2},? \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})\b"
    r"|(?<!\w)(?:[A-ZÄÖÜ][\wäöüß.-]{1,30} ){0,2}[A-ZÄÖÜ][\wäöüß-]{0,30}"
    r"(?:[Ss]traße|[Ss]trasse|[Ss]tr\.|weg|platz|allee|gasse|ring)"
    r" \d{1,4} ?[a-z]?,?\s{1,3}(?:[A-Z]{1,2}-)?\d{4,5} [A-ZÄÖÜ][\wäöüß-]{1,30}"
)  # fmt: skip

_ROUGH: Mapping[PiiKind, str] = {
    "secret": r"PRIVATE KEY|A[KS]IA[A-Z2-7]{16}|gh[pousr]_\w{36}|github_pat_|xox[abeprs]-|xapp-|sk-[\w-]{20}|"
    r"[sr]k_live_|AIza[\w-]{35}|hf_[A-Za-z0-9]{34}|eyJ[\w-]{8,}\.eyJ",
    "email": r"@[\p{L}\p{N}]",
    "iban": r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}",
    "card": r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{2}[ -]?[0-9]{2}",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:",
    # Python's `\d` finds the digits of every script, and so must this.
    "phone": r"\+\(?[1-9](?:[ .()/-]{0,2}\p{Nd}){7}|\p{Nd}{2}(?:\) ?|[ .-])[2-9]\p{Nd}{2}[ .-]\p{Nd}{4}|"
    r"(?i:tel|phone|mobile|cell|fax|whatsapp|handy|tél|móvil)[^\n\p{Nd}]*(?:[ .()/-]{0,2}\p{Nd}){7}",
    "address": r"[0-9][A-Za-z]? [A-Z][^\n]* (?:St|Ave|R(?:oa)?d|B(?:ou)?le?v|L(?:a?ne?)|Dr|C[oti]|Pl|Sq|Way|P(?:ar)?kw|"
    r"Ter|H(?:igh)?wy?)|"
    r"(?i:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ring) \p{Nd}",
}


def _emails(text: str) -> Iterator[Span]:
    return (match.span() for match in _EMAIL.finditer(text) if ".." not in match.group())


def _secrets(text: str) -> Iterator[Span]:
    for match in _SECRETS.finditer(text):
        key = match.group()
        # `sk-xxxxxxxxxxxxxxxxxxxx` and `sk-your-key-goes-right-here` are no keys.
        if key.startswith("-----") or (len(set(key)) >= 10 and any(mark.isdigit() for mark in key)):
            yield match.span()


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(text[match.start() : match.start() + 2])
        rest = _IBAN_REST[length].match(text, match.end()) if length else None
        if rest:
            code = text[match.end() : rest.end()] + match.group()
            if int("".join(str(int(mark, 36)) for mark in code if mark != " ")) % 97 == 1:
                yield match.start(), rest.end()


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match.group())
        if digits.isascii() and _CARD_RANGES.fullmatch(digits) and len(set(digits)) > 1 and _luhn(digits):
            yield match.span()


def _luhn(digits: str) -> bool:
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(twice - 9 if twice > 9 else twice for twice in doubled)) % 10 == 0


def _addresses_of_hosts(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        before = text[max(match.start() - 24, 0) : match.start()]
        # Four digits with dots between are a section's number far more often than a person's address.
        if len(match.group()) > len("3.1.3.6") and _is_public(match.group()) and not _NO_ADDRESS.search(before):
            yield match.span()
    yield from (match.span() for match in _IPV6.finditer(text) if _is_public(match.group()))


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _phones(text: str) -> Iterator[Span]:
    for match in _PHONE.finditer(text):
        group = "labelled" if match["labelled"] else 0
        start, end = match.span(group)
        number = match[group]
        is_decimal = re.fullmatch(r"\+\d+\.\d+", number) is not None
        if not is_decimal and (group or number[0] == "+" or not _NO_PHONE.search(text[max(start - 24, 0) : start])):
            yield start, end


def _street_addresses(text: str) -> Iterator[Span]:
    return (match.span() for match in _ADDRESS.finditer(text))


_FINDERS: Mapping[PiiKind, Callable[[str], Iterator[Span]]] = {
    "secret": _secrets,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _addresses_of_hosts,
    "phone": _phones,
    "address": _street_addresses,
}
