"""Transactions on the wire: pure, but for the SDK's own writing, which ours must equal."""

import json
import re

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from enviromon.stores.azure_tables.batch import Fault, Kind, Operation, read_answer, write_batch
from tests.azurite.server import ACCOUNT, KEY

URL = f"https://{ACCOUNT}.table.core.windows.net/States"
ROW = {
    "PartitionKey": "O'Hara & søn 100%+", "RowKey": "a~2F", "Text": 'Straße "雪"\n', "Long": (2**63 - 1, "Edm.Int64"),
    "Real": 20.0, "Bytes": b"\x00\xff", "Int": 7,
}  # fmt: skip
ETAG = "W/\"datetime'2026-11-24T00%3A00%3A00.1234567Z'\""
OPERATIONS = [
    Operation(Kind.INSERT, ROW),
    Operation(Kind.REPLACE, ROW, ETAG),
    Operation(Kind.PUT, ROW),
    Operation(Kind.DELETE, {name: ROW[name] for name in ("PartitionKey", "RowKey")}),
]


class Recorder(AsyncHttpTransport):
    """Keeps what would be sent, and answers nothing."""

    sent = None

    async def send(self, request, **_):
        self.sent = request.content
        raise HttpResponseError("recorded")

    async def open(self):
        pass

    async def close(self):
        pass

    async def __aexit__(self, *_):
        pass


async def by_the_sdk():
    recorder = Recorder()
    text = f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={KEY};EndpointSuffix=core.windows.net"
    async with TableClient.from_connection_string(text, "States", transport=recorder, retry_total=0) as client:
        replace = {"mode": UpdateMode.REPLACE}
        with pytest.raises(HttpResponseError, match="recorded"):
            await client.submit_transaction(
                [
                    ("create", ROW),
                    ("update", ROW, {**replace, "etag": ETAG, "match_condition": MatchConditions.IfNotModified}),
                    ("upsert", ROW, replace),
                    ("delete", OPERATIONS[3].entity),
                ]
            )
    return recorder.sent


def requests_in(body):
    """The rows' requests: method and URL, condition, and the row with the types that JSON does not tell."""
    assert body.startswith(b"--batch_")
    assert body.endswith(b"--\r\n")
    found = []
    for part in body.split(b"Content-Transfer-Encoding: binary\r\n")[1:]:
        request = re.search(
            rb"((?:POST|PUT|DELETE) .*?) HTTP/1.1\r\n(.*?)\r\n\r\n(.*?)\r\n(?:\r\n)?--", part, re.DOTALL
        )
        headers = dict(line.split(": ", 1) for line in request[2].decode().split("\r\n"))
        row = json.loads(request[3]) if request[3] else {}
        assert int(headers.get("Content-Length", 0)) == len(request[3])
        row = {name: value for name, value in row.items() if value != "Edm.String"}
        condition = headers.get("If-Match")
        found.append((request[1].decode(), condition, headers["DataServiceVersion"], row))
    return found


async def test_it_says_what_the_sdk_says():
    own = requests_in(write_batch(URL, OPERATIONS, "x"))
    assert len(own) == 4
    assert own == requests_in(await by_the_sdk())


def answer(*parts, end=True):
    head = "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    rows = "".join(f"{head}{part}\r\n" for part in parts)
    last = "--changesetresponse_1--\r\n--batchresponse_1--\r\n" if end else ""
    text = f"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n{rows}{last}"
    return {"Content-Type": "multipart/mixed; boundary=batchresponse_1"}, text.encode()


def done(etag):
    return f"HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\nETag: {etag}\r\n\r\n\r\n"


def failed(status, code, sentence):
    error = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": sentence}}}
    return f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n{json.dumps(error)}\r\n"


def test_an_answer_brings_the_etags_in_their_order():
    assert read_answer(202, *answer(done('W/"1"'), done('W/"2"')), 2) == ['W/"1"', 'W/"2"']


def test_a_deleted_row_has_no_etag():
    assert read_answer(202, *answer("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n\r\n"), 1) == [""]


def test_a_failure_names_its_operation():
    fault = read_answer(202, *answer(failed(412, "UpdateConditionNotSatisfied", "17:The update\ncondition")), 100)
    assert fault == Fault(
        412, "UpdateConditionNotSatisfied", "UpdateConditionNotSatisfied: 17:The update condition", 17
    )


def test_a_failure_of_the_request_is_about_no_operation():
    body = json.dumps({"odata.error": {"code": "ServerBusy", "message": {"value": "slow down"}}}).encode()
    assert read_answer(503, {"Retry-After": "3"}, body, 1) == Fault(
        503, "ServerBusy", "ServerBusy: slow down", None, 3.0
    )
    assert read_answer(502, {}, b"<html>", 1) == Fault(502, "", ": <html>")
    assert read_answer(400, {"x-ms-error-code": "Bad"}, b'{"odata.error": 7}', 1).code == "Bad"


def test_an_answer_that_is_cut_off_anywhere_tells_nothing():
    headers, body = answer(done('W/"1"'), done('W/"2"'))
    for length in range(len(body) - len("--\r\n")):
        with pytest.raises(ValueError, match="answer"):
            read_answer(202, headers, body[:length], 2)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"ok"),
        ({"Content-Type": "text/html"}, b"<html>"),
        ({"Content-Type": "multipart/mixed; boundary=b"}, b"x\r\n--b\r\n\r\n--b--"),
        ({"Content-Type": "multipart/mixed; boundary=b"}, b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--"),
    ],
)
def test_what_is_no_answer_of_tables_tells_nothing(headers, body):
    with pytest.raises(ValueError, match="answer"):
        read_answer(202, headers, body, 1)


def test_fewer_answers_than_rows_tell_nothing():
    with pytest.raises(ValueError, match="of 1 rows, not of 2"):
        read_answer(202, *answer(done('W/"1"')), 2)
