"""``nas dashboard``: Optuna's dashboard on a study."""

from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName


def dashboard(
    study_name: StudyName,
    storage: Storage = DEFAULT_URL,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's are open to all.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
) -> int:
    """Show a study live in a browser until interrupted; it only reads."""
    from nas.study.dashboard import dashboard_server
    from nas.study.store.reader import open_study

    study = open_study(storage, study_name)
    with dashboard_server(study, host, port) as server:
        typer.echo(f"http://{host}:{server.server_port}/dashboard/studies/{study.study_id}")
        typer.echo("stop it with Ctrl-C", err=True)
        server.serve_forever()
    return 0
