"""No password is shown, in whatever spelling and however the text arrives."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator

import click
import pytest
from sqlalchemy.engine import URL

from migrator.redaction import MASK, RedactingStream, Redactor

PASSWORDS = (
    "correct-horse",
    "p@ss:w/rd",
    "100%sure%40",
    'it\'s "quoted"',
    "back\\slash",
    "pässwörd-✓",
    "a+b c&d=e?f#g",
    "$HOME;`id`",
    "two\nlines",
    "*.+?[x](y){2}|z^",
    "raw\udcffbyte",
)

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quoted for a path": lambda secret: urllib.parse.quote(secret, errors="surrogateescape"),
    "quoted in full": lambda secret: urllib.parse.quote(secret, safe="", errors="surrogateescape"),
    "quoted in lower case": lambda secret: (
        urllib.parse.quote(secret, safe="", errors="surrogateescape")
        .replace("%2F", "%2f")
        .replace("%3A", "%3a")
    ),
    "quoted for a form": lambda secret: urllib.parse.quote_plus(secret, errors="surrogateescape"),
    "as configparser wants it": lambda secret: secret.replace("%", "%%"),
    "quoted, as configparser wants it": lambda secret: urllib.parse.quote_plus(
        secret, errors="surrogateescape"
    ).replace("%", "%%"),
    "repr": lambda secret: repr(secret)[1:-1],
    "ascii": lambda secret: ascii(secret)[1:-1],
    "repr of bytes": lambda secret: repr(secret.encode(errors="surrogateescape"))[2:-1],
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "repr in JSON": lambda secret: json.dumps(repr(secret)[1:-1])[1:-1],
    "a shell's word": shlex.quote,
    "an SQL literal": lambda secret: secret.replace("'", "''"),
    "libpq's key-value text": lambda secret: secret.replace("\\", "\\\\").replace("'", "\\'"),
}


def knowing(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    return redactor


@pytest.mark.parametrize("secret", PASSWORDS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_known_password_is_masked_in_every_spelling(secret: str, spelling: str) -> None:
    written = SPELLINGS[spelling](secret)
    shown = knowing(secret).redact(f"begin <{written}> end")
    assert shown.replace("'", "") == f"begin <{MASK}> end"


@pytest.mark.parametrize("secret", [password for password in PASSWORDS if password.isprintable()])
def test_a_known_password_is_masked_in_the_url_that_sqlalchemy_renders(secret: str) -> None:
    url = URL.create("postgresql", "shop", secret, "db", 5432, "orders")
    shown = knowing(secret).redact(f"connecting to {url.render_as_string(hide_password=False)} ...")
    assert shown == f"connecting to postgresql://shop:{MASK}@db:5432/orders ..."


def test_of_two_secrets_the_longer_one_is_masked_whole() -> None:
    assert knowing("hunter", "hunter22").redact("hunter22 hunter") == f"{MASK} {MASK}"
    assert knowing("hunter22", "hunter").redact("hunter22 hunter") == f"{MASK} {MASK}"


@pytest.mark.parametrize("secret", ["", "abc", "shop", "orders", "db.internal"])
def test_what_would_mask_everything_is_not_masked(secret: str) -> None:
    redactor = Redactor()
    redactor.add(secret, never={"shop", "orders", "db.internal"})
    text = f"orders at db.internal as shop, {secret}"
    assert redactor.redact(text) == text


def test_a_spelling_that_would_mask_everything_is_not_masked() -> None:
    redactor = Redactor()
    redactor.add("shop@home", never={"shop%40home"})
    assert redactor.redact("shop%40home, shop@home") == f"shop%40home, {MASK}"


def test_plain_text_stays_as_it_is() -> None:
    text = (
        "2/3 b7730e backfill orders.placed_at: UPDATE orders SET placed_at = now() (http://localhost:8080/x)"
    )
    assert knowing("correct-horse").redact(text) == text
    assert Redactor().redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://shop:s3cret@db/orders", "postgresql://shop:***@db/orders"),
        ("postgresql+asyncpg://shop:s3c@ret@db/orders", "postgresql+asyncpg://shop:***@db/orders"),
        ("mysql://shop@corp:s3:c/ret@db", "mysql://shop@corp:***@db"),
        ("redis://:s3cret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("url='postgresql://shop:s3'cret@db/orders'", "url='postgresql://shop:***@db/orders'"),
        (
            "(postgresql://a:one1@h/x) (postgresql://b:two2@h/y)",
            "(postgresql://a:***@h/x) (postgresql://b:***@h/y)",
        ),
        ('{"url":"postgresql://a:one1@h/x","mail":"b@c"}', '{"url":"postgresql://a:***@h/x","mail":"b@c"}'),
        ("postgresql://shop@db/orders", "postgresql://shop@db/orders"),
        ("host=db password=s3cret dbname=orders", "host=db password=*** dbname=orders"),
        ("host=db password = 's3 \\'cret' dbname=orders", "host=db password = '***' dbname=orders"),
        ("connect(host='db', password='s3cret', port=1)", "connect(host='db', password='***', port=1)"),
        ('connect(password="s3cret", port=1)', 'connect(password="***", port=1)'),
        ("PGPASSWORD=s3cret psql", "PGPASSWORD=*** psql"),
        (
            "postgresql://db/orders?password=s3cret&sslmode=require",
            "postgresql://db/orders?password=***&sslmode=require",
        ),
        ("{'user': 'shop', 'password': 's3cret'}", "{'user': 'shop', 'password': '***'}"),
        ('{"db_password": "s3cret", "port": 1}', '{"db_password": "***", "port": 1}'),
        ('{"dsn":"password=s3cret","port":1}', '{"dsn":"password=***","port":1}'),
        ('{"dsn":"password=","port":1}', '{"dsn":"password=","port":1}'),
        ("connect(password=None, host=x)", "connect(password=None, host=x)"),
        ("ALTER ROLE shop PASSWORD 's3cret' VALID", "ALTER ROLE shop PASSWORD '***' VALID"),
        (
            "CREATE ROLE shop LOGIN ENCRYPTED PASSWORD 's3''cret';",
            "CREATE ROLE shop LOGIN ENCRYPTED PASSWORD '***';",
        ),
        ("alter user shop password E's3\\'cret' valid", "alter user shop password E'***' valid"),
        ("ALTER ROLE shop PASSWORD $$s3'cret$$;", "ALTER ROLE shop PASSWORD $$***$$;"),
        ("ALTER ROLE shop PASSWORD $x$s3$$cret$x$;", "ALTER ROLE shop PASSWORD $x$***$x$;"),
        ("ALTER ROLE shop\n  PASSWORD\n  's3cret'", "ALTER ROLE shop\n  PASSWORD\n  '***'"),
        (
            "op.execute('ALTER ROLE shop PASSWORD \\'s3cret\\'')",
            "op.execute('ALTER ROLE shop PASSWORD \\'***\\'')",
        ),
        ("ALTER ROLE shop PASSWORD 's3cr", "ALTER ROLE shop PASSWORD '***'"),
        ("CREATE USER shop IDENTIFIED BY 's3cret'", "CREATE USER shop IDENTIFIED BY '***'"),
        ("SET PASSWORD FOR shop = PASSWORD('s3cret')", "SET PASSWORD FOR shop = PASSWORD('***')"),
        ("the password's expiry isn't known", "the password's expiry isn't known"),
        ('password authentication failed for user "shop"', 'password authentication failed for user "shop"'),
        ("users.password VARCHAR(200) NOT NULL", "users.password VARCHAR(200) NOT NULL"),
    ],
)
def test_what_looks_like_a_password_is_masked_without_being_known(text: str, shown: str) -> None:
    assert Redactor().redact(text) == shown
    assert Redactor().redact(shown) == shown


@pytest.mark.parametrize(
    "text", ["://" + "a" * 60_000, "password" * 8_000, "PASSWORD '" * 6_000, "\\" * 50_000 + "://:@"]
)
def test_hostile_text_is_masked_without_trouble(text: str) -> None:
    shown = Redactor().redact(text)
    assert len(shown) <= len(text) + len(MASK) + 1


def test_secrets_may_be_added_while_others_are_masked() -> None:
    redactor = knowing("secret-0000")
    problems: list[str] = []
    added = threading.Event()

    def mask() -> None:
        while not added.is_set():
            if "secret-0000" in redactor.redact("the secret-0000 of all"):
                problems.append("shown")

    readers = [threading.Thread(target=mask) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 40):
        redactor.add(f"secret-{number:04}")
    added.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert redactor.redact(" ".join(f"secret-{number:04}" for number in range(40))) == " ".join([MASK] * 40)


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    with io.StringIO() as sink:
        yield sink


SECRET = "abcabd-abcab"  # begins again inside itself


@pytest.mark.parametrize("flushed", [True, False], ids=["flushed", "not flushed"])
@pytest.mark.parametrize("first", range(1, len("see abcabd-abcab now\n")))
def test_a_secret_split_over_writes_never_shows_in_part(sink: io.StringIO, first: int, flushed: bool) -> None:
    stream = RedactingStream(sink, knowing(SECRET))
    text = "see abcabd-abcab now\n"
    for second in range(first, len(text)):
        sink.seek(0)
        sink.truncate()
        for piece in (text[:first], text[first:second], text[second:]):
            stream.write(piece)
            if flushed:
                stream.flush()
            assert "abca" not in sink.getvalue()
        assert sink.getvalue() == f"see {MASK} now\n"


@pytest.mark.parametrize("secret", PASSWORDS)
def test_a_secret_written_character_by_character_is_masked(sink: io.StringIO, secret: str) -> None:
    stream = RedactingStream(sink, knowing(secret))
    for character in f"[{secret}]\n":
        stream.write(character)
        stream.flush()
    assert sink.getvalue() == f"[{MASK}]\n"


@pytest.mark.parametrize("secret", PASSWORDS)
def test_an_unknown_password_in_a_url_is_masked_when_the_write_is_split(
    sink: io.StringIO, secret: str
) -> None:
    stream = RedactingStream(sink, Redactor())
    quoted = urllib.parse.quote(secret, safe="", errors="surrogateescape")
    for character in f"at postgresql://shop:{quoted}@db/orders\n":
        stream.write(character)
        stream.flush()
    assert sink.getvalue() == f"at postgresql://shop:{MASK}@db/orders\n"


def test_a_partial_line_shows_at_once_when_flushed(sink: io.StringIO) -> None:
    stream = RedactingStream(sink, knowing(SECRET))
    stream.write("\rrunning 15 s")
    assert sink.getvalue() == ""
    stream.flush()
    assert sink.getvalue() == "\rrunning 15 s"


def test_only_what_could_be_the_beginning_of_a_secret_is_held_back(sink: io.StringIO) -> None:
    stream = RedactingStream(sink, knowing(SECRET))
    stream.write("done: a")
    stream.flush()
    assert sink.getvalue() == "done: "
    stream.write("ll is well")
    stream.flush()
    assert sink.getvalue() == "done: all is well"


def test_an_unfinished_quote_does_not_hold_back_the_lines_after_it(sink: io.StringIO) -> None:
    stream = RedactingStream(sink, Redactor())
    stream.write("password = 'oops\nnext line\n")
    assert sink.getvalue().endswith("next line\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("done: a", "done: a"),
        ("half: abcabd-", f"half: {MASK}"),
        ("whole: abcabd-abcab", f"whole: {MASK}"),
        ("", ""),
    ],
)
def test_the_end_shows_what_was_held_back_but_for_half_a_secret(
    sink: io.StringIO, text: str, shown: str
) -> None:
    stream = RedactingStream(sink, knowing(SECRET))
    stream.write(text)
    stream.finish()
    assert sink.getvalue() == shown


def test_closing_shows_the_rest_and_leaves_the_wrapped_stream_open(sink: io.StringIO) -> None:
    stream = RedactingStream(sink, knowing(SECRET))
    stream.write("bye, a")
    stream.close()
    assert stream.closed
    assert not sink.closed
    assert sink.getvalue() == "bye, a"


def test_it_stands_in_for_standard_output(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as real:
        stream = RedactingStream(real, knowing("pässword"))
        monkeypatch.setattr(sys, "stdout", stream)
        print("one", "pässword", flush=True)
        click.echo("two pässword")
        sys.stdout.writelines(["three ", "pässword\n"])
        content = "four pässword\n".encode()
        for half in (content[:7], content[7:]):  # in the middle of a character
            sys.stdout.buffer.write(half)
        sys.stdout.flush()
        assert sys.stdout.isatty() is False
        assert sys.stdout.fileno() == real.fileno()
        assert sys.stdout.encoding == "utf-8"
        assert sys.stdout.errors == real.errors
        assert sys.stdout.writable()
        with pytest.raises(TypeError, match="must be str"):
            sys.stdout.write(b"bytes")  # type: ignore[arg-type]
    assert capfd.readouterr().out == "one ***\ntwo ***\nthree ***\nfour ***\n"


def test_an_env_py_may_reconfigure_standard_output(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (tmp_path_factory.mktemp("out") / "out").open("w", encoding="utf-8", newline="") as real:
        stream = RedactingStream(real, Redactor())
        stream.reconfigure(line_buffering=True, errors="replace")
        assert real.line_buffering
        assert stream.errors == "replace"


def test_lines_of_several_threads_are_all_shown(sink: io.StringIO) -> None:
    stream = RedactingStream(sink, knowing(SECRET))

    def write(number: int) -> None:
        for _ in range(200):
            stream.write(f"{number} {SECRET}\n")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = sink.getvalue().splitlines()
    assert sorted(lines) == sorted(f"{number} {MASK}" for number in range(4) for _ in range(200))


def test_a_stream_ends_without_a_word_where_the_wrapped_one_was_closed_first() -> None:
    sink = io.TextIOWrapper(io.BytesIO())
    stream = RedactingStream(sink, knowing(SECRET))
    stream.write("all of it\n")
    stream.finish()
    sink.close()
    stream.buffer.close()
    stream.close()
    assert stream.closed
