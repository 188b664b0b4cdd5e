"""A client as its author would write it: generated stubs, nothing of ours. Argument: host:port."""

import base64
import json
import sys
import traceback
import urllib.error
import urllib.request

import blake3
import grpc
from commonplace.common.v1 import common_pb2 as common
from commonplace.ingest.v1 import ingest_pb2 as ingest
from commonplace.ingest.v1 import ingest_pb2_grpc as ingest_grpc
from commonplace.journal.v1 import journal_pb2 as journal
from commonplace.journal.v1 import journal_pb2_grpc as journal_grpc
from commonplace.retrieval.v1 import retrieval_pb2 as retrieval
from commonplace.retrieval.v1 import retrieval_pb2_grpc as retrieval_grpc

ADDRESS = sys.argv[1]
CHANNEL = grpc.insecure_channel(ADDRESS)
INGEST = ingest_grpc.IngestServiceStub(CHANNEL)
FULL = retrieval.PACK_VIEW_FULL
RETRIEVAL = retrieval_grpc.RetrievalServiceStub(CHANNEL)

DECISION = common.EventDraft(
    artifact_type="decision",
    title="Retries use full jitter",
    text="After the thundering herd in March, every retry waits a random time up to the back-off.",
    tags=["retries"],
)


def http(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADDRESS}{path}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_same_event_twice_is_one_event():
    other = common.EventDraft(artifact_type="bug", title="The clock of the third node runs ahead")
    request = ingest.IngestEventsRequest(events=[other])
    first = INGEST.IngestEvents(request, timeout=30)
    second = INGEST.IngestEvents(request, timeout=30)
    assert (first.summary.added, second.summary.added, second.summary.duplicates) == (1, 0, 1)
    assert first.event_ids == second.event_ids


def test_a_pack_is_cited_and_its_id_can_be_recomputed():
    request = retrieval.RetrieveRequest(query="how do we wait between retries?", budget_tokens=500, view=FULL)
    pack = RETRIEVAL.Retrieve(request, timeout=30).pack
    assert pack.items[0].title == DECISION.title
    citation = pack.items[0].citation
    assert DECISION.text.encode()[citation.start : citation.end].decode() == pack.items[0].text
    assert pack.id == "blake3:" + blake3.blake3(pack.content).hexdigest()
    content = json.loads(pack.content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical.encode() == pack.content


def test_a_pack_verifies_and_a_changed_one_does_not():
    pack = RETRIEVAL.Retrieve(retrieval.RetrieveRequest(query="retries", budget_tokens=500, view=FULL), timeout=30).pack
    verify = retrieval.VerifyPackRequest(id=pack.id, content=pack.content)
    assert RETRIEVAL.VerifyPack(verify, timeout=30).verified
    verify.content = pack.content.replace(b"jitter", b"bitter")
    answer = RETRIEVAL.VerifyPack(verify, timeout=30)
    assert not answer.verified and answer.differences


def test_a_wrong_field_is_named():
    try:
        RETRIEVAL.Retrieve(retrieval.RetrieveRequest(query=""), timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert "query" in error.details(), error.details()
    else:
        raise AssertionError("an empty query was taken")


def test_nothing_unmasked_comes_in():
    draft = common.EventDraft(artifact_type="runlog", title="Login", text='password = "correct-horse-battery"')
    try:
        journal_grpc.JournalServiceStub(CHANNEL).Append(journal.AppendRequest(events=[draft]), timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        assert "IngestService/Commit" in error.details(), error.details()
    else:
        raise AssertionError("the journal took an event past the masking of secrets")
    event = {"artifact_type": "runlog", "title": "Login", "text": draft.text}
    status, body = http("POST", "/journal/commit", {"message": "by hand", "events": [event]})
    assert status == 200 and json.loads(body)["redactions"], body
    status, body = http("GET", "/events?filter.artifact_types=runlog")
    assert status == 200 and b"Login" in body and b"correct-horse" not in body, body


def test_compressed_calls_and_large_pages_are_read_with_the_defaults_of_grpc():
    with grpc.insecure_channel(ADDRESS, compression=grpc.Compression.Gzip) as channel:
        large = [
            common.EventDraft(artifact_type="runlog", title=f"large run {number}", text="step ok, nothing else\n" * 40_000)
            for number in range(8)
        ]
        ingest_grpc.IngestServiceStub(channel).IngestEvents(ingest.IngestEventsRequest(events=large), timeout=60)
        request = journal.QueryEventsRequest(page_size=1_000)
        titles, pages = [], 0
        while True:
            # More than 4 MiB in one answer would end the call here.
            page = journal_grpc.JournalServiceStub(channel).QueryEvents(request, timeout=60)
            titles += [event.title for event in page.events if event.title.startswith("large run")]
            pages += 1
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert len(titles) == 8 and pages > 1, (titles, pages)


def test_json_says_the_same():
    status, body = http("POST", "/retrieve", {"query": "retries", "budget_tokens": 500})
    assert status == 200, body
    pack = json.loads(body)["pack"]
    assert pack["items"][0]["title"] == DECISION.title
    assert "content" not in pack and "exclusions" not in pack
    status, body = http("GET", "/packs/" + pack["id"])
    assert status == 200, body
    kept = json.loads(body)["pack"]
    whole = base64.b64decode(kept.pop("content"))
    assert pack["id"] == "blake3:" + blake3.blake3(whole).hexdigest()
    kept.pop("exclusions", None)
    assert kept == pack
    status, body = http("GET", "/events?filter.artifact_types=decision&page_size=5")
    assert status == 200 and json.loads(body)["events"][0]["title"] == DECISION.title, body
    status, body = http("POST", "/retrieve", {"query": "x", "budget": 5})
    assert status == 400 and "budget" in json.loads(body)["error"]["message"], body
    assert http("GET", "/health")[0] == 200
    assert b"rpc_server_call_duration_seconds" in http("GET", "/metrics")[1]


def main():
    INGEST.IngestEvents(ingest.IngestEventsRequest(events=[DECISION]), timeout=30)
    passed = failed = 0
    for name, test in sorted(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
