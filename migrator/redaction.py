"""Keeps passwords out of whatever is printed: known ones in every spelling, and what looks like one."""

from __future__ import annotations

import codecs
import io
import json
import re
import shlex
import threading
from collections.abc import Callable, Collection, Iterable
from typing import TextIO
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST_SECRET = 4
"""Anything shorter is part of ordinary words: masking it would mask everything."""
_RAW_BYTES = "surrogateescape"  # how Python reads environment variables that are not UTF-8

# Advice shows how a URL is written, with the word PASSWORD where one stands.
# A double-quoted value never begins where the JSON around it could have just ended a string. An SQL
# literal may be cut off: a long statement is shown only in part.
_SINGLE = r"""'(?:[^'\\]|\\.)*'"""
_DOUBLE = r"""\"(?![,:}\]])(?:[^"\\]|\\.)*\""""
_BARE = r"""(?:[^\s"&\\]|\\.)+"""
_URL_PASSWORD = re.compile(r"""(://[^\s:/"]*:)(?!PASSWORD@)(?:[^\s"\\]|\\.)+@""")
_KEYWORD_PASSWORD = re.compile(
    rf"""(passw(?:or)?d\s*=\s*)(?!none\b|null\b)({_SINGLE}|{_DOUBLE}|{_BARE})""", re.IGNORECASE | re.DOTALL
)
_KEY_PASSWORD = re.compile(
    rf"""(["']\w*passw(?:or)?d["']\s*:\s*)({_SINGLE}|{_DOUBLE})""", re.IGNORECASE | re.DOTALL
)
_SQL_PASSWORD = re.compile(
    r"""
    (\b(?:password|identified\s+by)(?:\s+|\s*\(\s*))
    (?: (?P<escape>e')(?:[^'\\]|''|\\.)*'
      | (?P<dollar>\$(?P<tag>\w*)\$).*?(?:\$(?P=tag)\$|\Z)
      | (?P<backslash>\\')(?:(?!\\').)*\\'
      | (?P<plain>(?:u&|n)?')(?:[^']|'')*'
      | (?P<cut>(?:e|u&|n)?\\?')[^'"]*\Z
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_GENERIC = (_URL_PASSWORD, _KEYWORD_PASSWORD, _KEY_PASSWORD, _SQL_PASSWORD)
_GENERIC_BEGINNING = re.compile(
    r"""(?: :(?:/(?:/\S*)?)?
      | passw(?:or)?d\s*=\s*(?:'[^'\n]*|"[^"\n]*|\S*)
      | (?:password|identified\s+by)(?:\s+|\s*\(\s*)(?:(?:e|u&|n)?\\?'[^'\n]*|\$[^$\n]*\$[^$\n]*)
    )\Z""",
    re.IGNORECASE | re.VERBOSE,
)


_ABOUT_SECRETS = re.compile(r"passw|pwd|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_LITERAL = re.compile(r"""'(?:[^']|'')*(?:'|\Z)|\$(\w*)\$.*?(?:\$\1\$|\Z)""", re.DOTALL)


def without_secret_literals(statement: str) -> str:
    """An SQL statement that mentions passwords, tokens or keys with each string literal masked.

    Which of the values of ``INSERT INTO users (name, password) VALUES …`` is the password takes a parser;
    that all of them are hidden costs little.
    """
    if _ABOUT_SECRETS.search(statement) is None:
        return statement
    return _LITERAL.sub(f"'{MASK}'", statement)


class Redactor:
    """Replaces secrets in text by ``***``. May be used from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spellings: frozenset[str] = frozenset()
        self._multiline: frozenset[str] = frozenset()
        self._known: re.Pattern[str] | None = None

    def add(self, secret: str, *, never: Collection[str] = ()) -> None:
        """Register a secret with every spelling in which it can turn up: URL, repr, JSON, shell, SQL.

        Skipped where masking it would mask everything: shorter than four characters, or equal to one of
        ``never`` (the user, the database, the host).
        """
        if len(secret) < SHORTEST_SECRET or secret in never:
            return
        with self._lock:
            spellings = self._spellings.union(
                s for s in _spellings(secret) if len(s) >= SHORTEST_SECRET and s not in never
            )
            longest_first = sorted(spellings, key=lambda s: (-len(s), s))
            self._known = re.compile("|".join(map(re.escape, longest_first)))
            self._multiline = frozenset(s for s in spellings if "\n" in s)
            self._spellings = spellings

    def redact(self, text: str) -> str:
        """``text`` with known secrets masked, and passwords in URLs, key-value text and SQL as well."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text and "@" in text:
            text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
        lowered = text.lower()
        if "passw" in lowered:
            text = _KEYWORD_PASSWORD.sub(_masked_value, text)
            text = _KEY_PASSWORD.sub(_masked_value, text)
        if "password" in lowered or "identified" in lowered:
            text = _SQL_PASSWORD.sub(_masked_literal, text)
        return text

    def redact_last(self, text: str) -> str:
        """As :meth:`redact`, where nothing follows: an end that is half of a known secret is masked, too."""
        length = len(text) - self._known_beginning(text)
        if len(text) - length < SHORTEST_SECRET or self._not_inside_a_match(text, length) < length:
            return self.redact(text)
        return self.redact(text[:length]) + MASK

    def complete_length(self, text: str) -> int:
        """How much of ``text`` can be shown before it is known how it goes on.

        What follows that index could be the beginning of a secret whose rest is still to come.
        """
        length = len(text) - self._known_beginning(text)
        if beginning := _GENERIC_BEGINNING.search(text):
            length = min(length, beginning.start())
        return self._not_inside_a_match(text, length) if length < len(text) else length

    def _known_beginning(self, text: str) -> int:
        """The length of the longest end of ``text`` that is the beginning, not the whole, of a secret."""
        longest = 0
        for spelling in self._multiline if text.endswith("\n") else self._spellings:
            for length in range(min(len(spelling) - 1, len(text)), longest, -1):
                if text.endswith(spelling[:length]):
                    longest = length
                    break
        return longest

    def _not_inside_a_match(self, text: str, length: int) -> int:
        """``length``, or less: a cut inside of what is a secret already would show half of it."""
        patterns = (*_GENERIC, self._known) if self._known else _GENERIC
        spans = sorted(
            (match.span() for pattern in patterns for match in pattern.finditer(text)), reverse=True
        )
        for start, end in spans:
            if start < length < end:
                length = start
        return length


def _masked_value(match: re.Match[str]) -> str:
    value = match[2]
    mark = value[0] if value[0] in "'\"" and value[-1] == value[0] and len(value) > 1 else ""
    return f"{match[1]}{mark}{MASK}{mark}"


def _masked_literal(match: re.Match[str]) -> str:
    opening = match["escape"] or match["dollar"] or match["backslash"] or match["plain"] or match["cut"]
    return f"{match[1]}{opening}{MASK}{opening.lstrip('eEuUnN&')}"


def _spellings(secret: str) -> Iterable[str]:
    """The secret as URLs, Python, JSON, shells, configuration files, libpq and SQL write it."""
    quoted = {
        quote(secret, errors=_RAW_BYTES),
        quote(secret, safe="", errors=_RAW_BYTES),
        quote(secret, safe=" +", errors=_RAW_BYTES),
        quote_plus(secret, errors=_RAW_BYTES),
        re.sub("[:@/]", lambda match: quote(match[0], safe=""), secret),
    }
    quoted |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), spelling) for spelling in quoted}
    plain = {
        secret,
        *quoted,
        secret.replace("'", "''"),
        secret.replace("\\", "\\\\").replace("'", "\\'"),
        shlex.quote(secret).removeprefix("'").removesuffix("'"),
        repr(secret.encode(errors=_RAW_BYTES))[2:-1],
        ascii(secret)[1:-1],
        repr(secret)[1:-1],
    }
    plain |= {
        json.dumps(spelling, ensure_ascii=pure)[1:-1] for spelling in tuple(plain) for pure in (True, False)
    }
    return plain | {spelling.replace("%", "%%") for spelling in plain}


class RedactingStream(io.TextIOBase):
    """A text stream that masks what is written to it; stands in for ``sys.stdout`` or ``sys.stderr``.

    Works by lines: an incomplete line is kept until it is complete, or until :meth:`flush`, which shows it
    but for an end that could be the beginning of a secret. Call :meth:`finish` when done: it shows what is
    still kept. The wrapped stream is never closed. What is written to the file descriptor itself (by a
    subprocess, say) does not pass here.

    :param quote: what else is done to each text that is shown; it may be a part of a line.
    """

    def __init__(self, stream: TextIO, redactor: Redactor, quote: Callable[[str], str] | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._redactor = redactor
        self._quote = quote or str
        self._pending = ""
        # A signal handler may print while its own thread is inside write().
        self._lock = threading.RLock()
        self._buffer = _BinarySide(self.write, self.flush, self.encoding)

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            self._pending += text
            complete = self._pending.rfind("\n") + 1
            if complete:
                self._show(complete)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            if self._pending:
                self._show(len(self._pending))
            # At the interpreter's end the wrapped one may go first; from Python 3.13 on an error there is told.
            if not self._stream.closed:
                self._stream.flush()

    def finish(self) -> None:
        """Show what is still kept, masked, and flush. The stream stays usable."""
        with self._lock:
            self.flush()
            if self._pending:
                text, self._pending = self._pending, ""
                self._stream.write(self._quote(self._redactor.redact_last(text)))
                self._stream.flush()

    def close(self) -> None:
        if not self.closed:
            self.finish()
            super().close()

    def _show(self, end: int) -> None:
        text = self._pending[:end]
        length = self._redactor.complete_length(text)
        self._pending = self._pending[length:]
        if length:
            self._stream.write(self._quote(self._redactor.redact(text[:length])))

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def reconfigure(self, **options: object) -> None:
        """As on the wrapped stream (an ``env.py`` may ask for line buffering or another encoding)."""
        if callable(reconfigure := getattr(self._stream, "reconfigure", None)):
            reconfigure(**options)

    @property
    def buffer(self) -> io.BufferedIOBase:
        """Takes bytes in the stream's encoding and masks them likewise."""
        return self._buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def line_buffering(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return str(getattr(self._stream, "name", ""))


class _BinarySide(io.BufferedIOBase):
    """What ``sys.stdout.buffer`` is for a :class:`RedactingStream`."""

    def __init__(self, write: Callable[[str], int], flush: Callable[[], None], encoding: str) -> None:
        super().__init__()
        self._write = write
        self._flush = flush
        # A character may be split over two writes.
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def write(self, data: object, /) -> int:
        content = bytes(memoryview(data))  # type: ignore[arg-type]
        self._write(self._decoder.decode(content))
        return len(content)

    def flush(self) -> None:
        self._flush()

    def writable(self) -> bool:
        return True
