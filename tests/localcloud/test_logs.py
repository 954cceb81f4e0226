import io
import logging

import pytest
from aiohttp.http_exceptions import LineTooLong
from hypothesis import given
from hypothesis import strategies as st

from localcloud.logs import Damper, PrintableFormatter, printable


@pytest.fixture
def log() -> logging.Logger:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")  # noqa: LOG001 - one of its own, that no other test's handlers see
    logger.addHandler(handler)
    logger.stream = stream  # type: ignore[attr-defined]
    return logger


def test_what_a_peer_sent_cannot_forge_a_line_or_steer_the_terminal(log: logging.Logger) -> None:
    log.warning("%s refused", "d1\n2026-01-01 ERROR all is lost\x1b[2J\x9b31m\u202eexe")
    assert log.stream.getvalue() == (  # type: ignore[attr-defined]
        "WARNING d1\\n2026-01-01 ERROR all is lost\\x1b[2J\\x9b31m\\u202eexe refused\n"
    )


def fail(text: str) -> None:
    raise ValueError(text)


def test_a_traceback_keeps_its_lines_and_its_text_is_escaped(log: logging.Logger) -> None:
    try:
        fail("\x1b]0;owned\x07")
    except ValueError:
        log.exception("it failed")
    text = log.stream.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    assert text.count("\n") >= 4
    assert "\\x1b]0;owned\\x07" in text


@given(st.text())
def test_whatever_the_text_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    shown.encode()


def test_a_request_that_breaks_http_leaves_a_line_and_no_traceback() -> None:
    error = LineTooLong("\x1b[2J", 8190)
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "p", 1, "Error", (), (LineTooLong, error, None))
    assert Damper().filter(record)
    assert PrintableFormatter("%(levelname)s %(message)s").format(record) == "WARNING a request broke HTTP: LineTooLong"


def test_a_flood_of_one_text_is_damped_and_counted_and_others_are_not() -> None:
    now = [0.0]
    damper = Damper(clock=lambda: now[0])

    def write(text: str, level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.LogRecord("n", level, "p", 1, text, (1,), None)
        return record if damper.filter(record) else None

    assert sum(write("peer %d turned away") is not None for _ in range(1000)) == 50
    assert write("another %d") is not None
    assert all(write("failed %d", logging.ERROR) for _ in range(100))
    now[0] = 1.0
    record = write("peer %d turned away")
    assert record is not None
    assert record.getMessage() == "peer 1 turned away (and 950 more like it)"
