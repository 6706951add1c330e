import asyncio

import pytest

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')

from koa_lightning.serving.service.guard import Guard, check_origin
from koa_lightning.serving.service.problems import Problem
from koa_lightning.serving.service.settings import Access, Limits

TOKEN = "sixteen-characters-and-more"


def status(answer):
    return answer.status_code, answer.json().get("error", {}).get("code")


def test_a_token_is_asked_for_where_something_is_graded_or_told(client):
    service = client(token=TOKEN)
    for path in ("/v1/model", "/metrics", "/openapi.json", "/nowhere"):
        assert status(service.get(path)) == (401, "unauthorised")
    answer = service.post("/v1/grade", files=[("files", ("a.png", b""))])
    assert status(answer) == (401, "unauthorised") and answer.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer ü", ""):
        answer = service.get("/v1/model", headers={"authorization": wrong.encode()})
        assert status(answer) == (401, "unauthorised"), wrong
    right = {"authorization": f"Bearer {TOKEN}"}
    assert service.get("/v1/model", headers=right).status_code == 200
    for path in ("/", "/docs", "/health", "/ready", "/page/index.html"):
        assert service.get(path).status_code == 200, path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "169.254.1.1"]
)
def test_another_name_for_this_machine_is_refused(client, host):
    assert status(client().get("/health", headers={"host": host})) == (403, "forbidden")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000"])
def test_its_own_names_are_known(client, host):
    assert client().get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9000", "http://[", "file://"])
def test_a_page_of_another_site_is_refused(client, origin):
    answer = client().post("/v1/grade", files=[("files", ("a.png", b""))], headers={"origin": origin})
    assert status(answer) == (403, "forbidden")


def test_its_own_page_is_answered(client):
    answer = client().post("/v1/grade", files=[("files", ("a.png", b""))], headers={"origin": "http://127.0.0.1:8000"})
    assert status(answer) == (422, "unreadable")


def test_other_machines_may_use_any_name_for_it():
    check_origin({"host": "knees.example.org"}, Access("0.0.0.0", 80, TOKEN))
    with pytest.raises(Problem):
        check_origin({"host": "knees.example.org", "origin": "http://evil.example"}, Access("0.0.0.0", 80, TOKEN))


def test_uploads_that_would_fill_the_memory_together_are_refused():
    class Stuck:
        async def __call__(self, scope, receive, send):
            while (await receive()).get("more_body"):
                pass
            await asyncio.sleep(3600)

    async def main():
        limits = Limits(n_bytes=100, n_files=9, n_pixels=9, seconds=1.0, n_waiting=9)
        guard, statuses = Guard(Stuck(), Access("127.0.0.1", 8000, ""), limits), []
        scope = {"type": "http", "method": "POST", "path": "/v1/grade", "headers": [(b"host", b"localhost")]}

        async def send(message):
            statuses.append(message.get("status"))

        async def receive():
            return {"type": "http.request", "body": b"0" * 90}

        await asyncio.gather(*(guard(scope, receive, send) for _ in range(6)))
        return sorted(filter(None, statuses)), guard.n_held

    assert asyncio.run(main()) == ([503, 503, 504, 504, 504, 504], 0)


def test_every_answer_says_what_a_page_may_do(client):
    service = client()
    for path in ("/", "/docs", "/health", "/nowhere", "/openapi.json"):
        headers = service.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"] and "http" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
