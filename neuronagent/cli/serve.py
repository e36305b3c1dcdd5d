"""`neuronagent serve`: the MCP server, for assistants that speak the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli import llm_options as asked
from neuronagent.cli.live_options import Device, Model
from neuronagent.cli.options import Db
from neuronagent.cli.output import say
from neuronagent.errors import Interrupted, UsageError
from neuronagent.settings import chosen_db

if TYPE_CHECKING:
    from neuronagent.mcp_server.http_options import HttpOptions
    from neuronagent.mcp_server.options import ServerOptions

NAME = "serve"
TOKEN_VARIABLE = "NEURONAGENT_TOKEN"  # the same as in `mcp_server.http_options`, which `--help` need not import


def command(
    db: Db = None,
    over_http: Annotated[
        bool, typer.Option("--http/--stdio", help="Listen on a port, or on stdin and stdout (the default).")
    ] = False,
    host: Annotated[
        str | None, typer.Option("--host", help="With --http: address to listen on (default: 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="With --http: 0 takes a free one (default: 8765).")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host", metavar="HOST[:PORT]", help="With --http: a name under which clients reach it, too."
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-origin", metavar="URL", help="With --http: a page in a browser that may ask: https://app.example"
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help=f"With --http: holds the token that clients must send (else {TOKEN_VARIABLE}). Needed with --host.",
        ),
    ] = None,
    request_timeout: Annotated[
        float | None,
        typer.Option("--request-timeout", metavar="SECONDS", help="With --http: until an answer (default: 120)."),
    ] = None,
    rate_limit: Annotated[
        float | None,
        typer.Option(
            "--rate-limit", metavar="N", help="With --http: requests per second of one client (default: 1000; 0: any)."
        ),
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="With --http: whether people find pages at /, too.")
    ] = True,
    toolsets: Annotated[
        str | None, typer.Option("--toolsets", metavar="LIST", help="Of core,live,explain,report (default: all).")
    ] = None,
    tools: Annotated[
        str | None, typer.Option("--tools", metavar="LIST", help="Only these tools, such as model_info,search_neurons.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Leave out the tools that write to the index.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Whether tools may run the model, which is loaded when one does.")
    ] = True,
    model: Model = None,
    device: Device = "auto",
    live_timeout: Annotated[
        float, typer.Option("--live-timeout", metavar="SECONDS", help="What one question to the model may take.")
    ] = 60.0,
    llm: asked.Llm = None,
    base_url: asked.BaseUrl = None,
    judge: asked.JudgeName = None,
    judge_url: asked.JudgeUrl = None,
    candidates: asked.Candidates = None,
    size: asked.Size = None,
    scores: asked.Scores = None,
    budget_tokens: asked.BudgetTokens = None,
    budget: asked.BudgetMoney = None,
    prices: asked.Prices = None,
    concurrency: asked.Concurrency = None,
) -> None:
    """Serve an index to an assistant over MCP: on stdin and stdout, or with --http on a port.

    Over HTTP it listens on this machine alone. Another --host needs a token and --allowed-host. There it also shows
    pages for a browser: search, neurons, layers, and a text box whose text the model reads. They ask for the token, if
    there is one, as a password; --tools, or --toolsets without core, leave them out.
    """
    only_http = {
        "--host": host, "--port": port, "--allowed-host": allowed_host, "--allowed-origin": allowed_origin,
        "--token-file": token_file, "--request-timeout": request_timeout, "--rate-limit": rate_limit,
        "--no-pages": None if pages else False,
    }  # fmt: skip
    given = [name for name, value in only_http.items() if value is not None]
    if given and not over_http:
        raise UsageError(f"{given[0]} is for a server on a port", remedy=f"add --http, or leave {given[0]} out")
    for name, seconds in (("--live-timeout", live_timeout), ("--request-timeout", request_timeout)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise UsageError(f"{name} must be positive, not {seconds:g}")
    wanted = asked.read_options(
        llm=llm, judge=judge, base_url=base_url, judge_url=judge_url, candidates=candidates, size=size, scores=scores,
        budget_tokens=budget_tokens, budget=budget, prices=prices, concurrency=concurrency,
    )  # fmt: skip

    from neuronagent.mcp_server.options import TOOLSETS, ServerOptions

    options = ServerOptions(
        db=chosen_db(db),
        toolsets=TOOLSETS if toolsets is None else _names("--toolsets", toolsets),
        tools=() if tools is None else _names("--tools", tools),
        read_only=read_only,
        live=live,
        model=model,
        device=device,
        live_timeout=live_timeout,
        llm=wanted,
    )
    if over_http:
        from neuronagent.mcp_server.http_options import HttpOptions, read_token

        chosen: dict[str, Any] = {
            "host": host, "port": port, "request_seconds": request_timeout, "rate": rate_limit,
            "allowed_hosts": tuple(allowed_host or ()), "allowed_origins": tuple(allowed_origin or ()),
            "token": read_token(token_file),
        }  # fmt: skip
        _serve(options, HttpOptions(**{name: value for name, value in chosen.items() if value is not None}), pages)
    else:
        from neuronagent.mcp_server.server import run_stdio

        run_stdio(options)


def _names(option: str, given: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    if not names:
        raise UsageError(f"{option} names nothing", remedy=f"separate names by commas, or leave {option} out")
    return names


def _serve(options: ServerOptions, http: HttpOptions, with_pages: bool) -> None:
    from neuronagent.mcp_server.http import leave, serve_http
    from neuronagent.mcp_server.pages import build_pages
    from neuronagent.mcp_server.server import build_server, require_index

    require_index(options.db)

    server = build_server(options)
    pages = build_pages(server, options) if with_pages else None

    def ready(url: str) -> None:
        needs = "with a token" if http.token else "without a token, for this machine alone"
        say(f"serving {Path(options.db).name} at {url} {needs}; Ctrl-C stops it")
        if pages is not None:
            say(f"pages for a browser: {url.removesuffix(http.path)}/" + (" (password: the token)" * bool(http.token)))

    try:
        try:
            serve_http(server, http, ready, server.close, pages)
        finally:
            server.close()
    except KeyboardInterrupt:
        leave(Interrupted.exit_code)
        raise
    leave(0)
