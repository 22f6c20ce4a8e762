"""The page's files, served as they stand and to everybody: they hold no data, the data wants a token."""

from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    # nothing from elsewhere and nothing inline: a log line that gets into the page as markup is still not run
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: web.Application) -> None:
    """Serve the page at `/` and its parts below `/page/`; each file is read once, now."""
    for file in resources.files("holdfast.api").joinpath("page").iterdir():
        name = file.name
        kind = next((kind for suffix, kind in _TYPES.items() if name.endswith(suffix)), None)
        if kind is not None:
            app.router.add_get("/" if name == "index.html" else f"/page/{name}", _serving(file.read_bytes(), kind))



def _serving(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)

    return answer
