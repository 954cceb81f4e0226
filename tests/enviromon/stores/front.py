"""An HTTP server in front of Azurite that says no in Tables' words, as often as it is told; else it passes all on."""

import json

import aiohttp
from aiohttp import web
from yarl import URL


class Front:
    """`refuse` the next requests whose method and path hold `what`; where `applied`, pass them on all the same."""

    def __init__(self, upstream):
        self._upstream = upstream
        self._refusals = []
        self.requests = []

    def refuse(self, what, status, code, *, times=1, retry_after=None, applied=False):
        self._refusals += [(what, status, code, retry_after, applied)] * times

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_):
        await self._session.close()
        await self._runner.cleanup()

    async def _answer(self, request):
        asked = f"{request.method} {request.raw_path}"
        self.requests.append(asked)
        refusal = next((one for one in self._refusals if one[0] in asked), None)
        if refusal is not None:
            self._refusals.remove(refusal)
        if refusal is None or refusal[4]:
            url = URL(f"http://127.0.0.1:{self._upstream}{request.raw_path}", encoded=True)
            sent = await request.read() or None
            async with self._session.request(request.method, url, data=sent, headers=request.headers) as upstream:
                body = await upstream.read()
                headers = {name: value for name, value in upstream.headers.items() if name != "Transfer-Encoding"}
                passed = web.Response(status=upstream.status, body=body, headers=headers)
            if refusal is None:
                return passed
        _, status, code, retry_after, _ = refusal
        error = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": "not now"}}}
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return web.Response(status=status, text=json.dumps(error), headers=headers, content_type="application/json")
