"""Say what patterns cannot: whether a candidate is a placeholder, a word, or a number with a false checksum.

A check sees the scanned bytes and where the candidate lies, and may read at most CONTEXT bytes before it: text is
masked while it streams, and what lies further back is gone.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping

Check = Callable[[bytes, int, int], bool]

CONTEXT = 64

# What documentation and templates put where a secret goes.
_PLACEHOLDER = re.compile(
    rb"(?i)example|sample|change[_-]?(?:me|it|this)|placeholder|redacted|masked|insert|replace|dummy|fake|todo|"
    rb"your[_-]?|my[_-]?(?:secret|token|key|pass)|"
    rb"\*{3}|\.{3}|(.)\1{4}|0123456|1234567|abcdefg|qwertz|qwerty|deadbeef|"
    rb"[$%#@]\{|\{\{|\$\(|<[a-z_ -]+>|%\(|(?-i:%[sdr])(?:$|[^A-Za-z0-9])|^\$[a-z_]|"
    rb"^%[a-z_]+%$|^\{.*\}$|^<.*>$|^@[a-z_]+@$"
)
_WORDS = re.compile(
    rb"(?i)(?:the|my|a|an|no|old|new|some|any|bad|good|wrong|invalid|valid|test|testing|abc|xyz|foo|bar|baz|user|username|root|admin|guest|db|"
    rb"pass|passwd|password|passphrase|pwd|passw0rd|p4ssw0rd|pw|secret|token|key|api|value|string|text|none|null|nil|true|"
    rb"false|undefined|empty|default|hidden|required|optional|anonymous|letmein|login|hash|postgres|mysql|redis|"
    rb"[0-9]{0,4}|[^A-Za-z0-9])+"
)
_RUN = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_NAME = re.compile(rb"([A-Za-z0-9_.$:*/-]*)[^A-Za-z0-9_.$*/-]*$")
# Names with a keyword in them whose values are no secrets.
_HARMLESS_NAME = re.compile(
    rb"(?i)public|tokeni[sz]|token_?(?:type|count|limit|name|kind|class|pattern|url|uri|endpoint|id$|file|path|length|"
    rb"len)|tokens|(?:secret|password|key|token|credential)s?[_.-]?(?:name|id|ref|type|file|path|url|uri|field|label|"
    rb"prompt|hash|hasher|policy|length|regex|pattern|version|arn|header|param|format|algorithm)|csrf|xsrf|cancel|"
    rb"::|arn:|secretsmanager|alias/|last_?(?:used|changed)|expir|created|_at$|"
    rb"(?:continuation|next|page|pagination|sync|starting|client|request|idempotency|lock|change|action|update)[_-]?token"
)
_CODE = re.compile(
    rb"[(){}\[\]<>;]|::|->|://|^(?:~|\.{0,2})/[a-z_.-]+(?:/|$)|^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$|^[a-z_]+/[a-z_./-]+$|^--|\\[a-z]\w*\\"
)


def _documented(data: bytes, start: int, end: int) -> bool:
    """Let the access keys pass that AWS prints in its documentation: they end in EXAMPLE, in either form."""
    return not data[start:end].upper().endswith((b"EXAMPLE", b"EXAMPLEKEY"))


def _not_a_placeholder(data: bytes, start: int, end: int) -> bool:
    """Refuse what stands for a secret (`<password>`, `${TOKEN}`, `changeme`) and words that only describe one."""
    value = data[start:end]
    return _PLACEHOLDER.search(value) is None and _WORDS.fullmatch(value) is None


def _url_password(data: bytes, start: int, end: int) -> bool:
    value = data[start:end]
    return not (value.isdigit() and len(value) <= 5) and _not_a_placeholder(data, start, end)


def _curl_password(data: bytes, start: int, end: int) -> bool:
    return not data[start:end].isdigit() and _not_a_placeholder(data, start, end)


def _basic(data: bytes, start: int, end: int) -> bool:
    """Take only base64 of `user:password` in printable characters (RFC 7617 section 2)."""
    value = data[start:end]
    try:
        pair = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return ":" in pair[1:] and pair.isprintable()


def _random_text(data: bytes, start: int, end: int) -> bool:
    """Take text that looks drawn by lot: with digits or both cases, and without words in it."""
    value = data[start:end]
    runs = _RUN.findall(value)
    letters = sum(map(len, runs))
    if len(value) < 16 or letters < 12 or _CODE.search(value) or _PLACEHOLDER.search(value):
        return False
    mixed = any(run.isdigit() for run in runs) or len(runs) >= letters / 2.5
    # Words are runs of letters of one case; in text drawn from letters and digits such runs are short.
    return mixed and len(runs) * 3.6 >= letters and not value.isdigit()


def _harmless_name(data: bytes, start: int) -> bool:
    name = _NAME.search(data, max(0, start - CONTEXT), start)
    return name is not None and _HARMLESS_NAME.search(name[1]) is not None


def _assigned_secret(data: bytes, start: int, end: int) -> bool:
    return _random_text(data, start, end) and not _harmless_name(data, start)


def _password(data: bytes, start: int, end: int) -> bool:
    """Take what a password policy would take: three kinds of characters, or letters and digits well mixed."""
    value = data[start:end]
    if not _not_a_placeholder(data, start, end) or _CODE.search(value) or _harmless_name(data, start):
        return False
    runs = _RUN.findall(value)
    kinds = (
        any(run.isdigit() for run in runs)
        + any(run[-1:].islower() for run in runs)
        + any(run[:1].isupper() for run in runs)
        + any(char in b"!#$%&*+=?@^~|" for char in value)
    )
    return kinds >= 3 or (kinds == 2 and len(runs) >= 4 and len(runs) * 3 >= len(value))


def _luhn(data: bytes, start: int, end: int) -> bool:
    """Check a card number: an issuer's prefix and length, and the check digit of ISO/IEC 7812-1 annex B."""
    digits = [byte - 48 for byte in data[start:end] if 48 <= byte <= 57]
    number = "".join(map(str, digits))
    known = (
        (number[0] == "4" and len(number) in (13, 16, 19))
        or (len(number) == 16 and (51 <= int(number[:2]) <= 55 or 2221 <= int(number[:4]) <= 2720))
        or (len(number) == 15 and number[:2] in ("34", "37"))
        or (len(number) == 14 and (number[:2] in ("36", "38", "39") or 300 <= int(number[:3]) <= 305))
        or (
            16 <= len(number) <= 19 and (number[:4] == "6011" or number[:2] in ("62", "64", "65") or number[:2] == "35")
        )
    )
    doubled = (2 * digit - 9 if digit > 4 else 2 * digit for digit in digits[-2::-2])
    return known and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(data: bytes, start: int, end: int) -> bool:
    """Check an IBAN: 15 to 34 characters and mod 97 = 1 (ISO 13616-1, ISO/IEC 7064)."""
    text = data[start:end].replace(b" ", b"").decode("ascii")
    return 15 <= len(text) <= 34 and int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def _phone(data: bytes, start: int, end: int) -> bool:
    """Check the length of an international number: at most 15 digits (E.164 section 6.1), at least 8 in use."""
    return 8 <= sum(48 <= byte <= 57 for byte in data[start:end]) <= 15


CHECKS: Mapping[str, Check] = {
    "aws-access-key-id": _documented,
    "aws-secret-access-key": _documented,
    "url-password": _url_password,
    "basic-credentials": _basic,
    "bearer-token": _random_text,
    "curl-user": _curl_password,
    "password-attribute": _not_a_placeholder,
    "password-option": _password,
    "connection-string-password": _password,
    "password": _password,
    "password-bare": _password,
    "secret": _assigned_secret,
    "secret-bare": _assigned_secret,
    "payment-card": _luhn,
    "iban": _iban,
    "phone-number": _phone,
}
"""What a candidate of a rule must pass, by the rule's id."""
