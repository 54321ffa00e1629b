"""Optuna's dashboard on a study database: live and read-only, so that it can neither lock nor change one."""

from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from nas.errors import UserError
from nas.study.store.optuna_storage import read_only_storage
from nas.study.store.reader import Study

INSTALL = "nas dashboard needs the package optuna-dashboard; install it with: pip install 'fusion-nas[dashboard]'"


def dashboard_app(study: Study) -> Callable[..., Any]:
    """The dashboard as a WSGI application; a `UserError` with the line that installs it where it is missing."""
    try:
        import optuna_dashboard  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError(INSTALL) from None
    app: Callable[..., Any] = optuna_dashboard.wsgi(read_only_storage(study.url))
    return app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A live page asks every few seconds; nothing to say."""


def dashboard_server(study: Study, host: str, port: int) -> WSGIServer:
    """A server that waits to be run; a port that cannot be had is a `UserError`. Port 0 takes any free one."""
    app = dashboard_app(study)
    try:
        return make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise UserError(f"--port {port}: cannot listen on {host}: {error.strerror}") from None
