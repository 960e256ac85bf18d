"""The ServerApp that every engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flwr.serverapp import ServerApp

from fedcomp.checkpoint.files import Checkpoints, Part
from fedcomp.errors import DataError
from fedcomp.link.ledger import Ledger
from fedcomp.link.server import ServerLink
from fedcomp.models.base import load_tensors
from fedcomp.report.observer import Trained
from fedcomp.report.relevance import RelevancePicture
from fedcomp.report.run_picture import CurvesPicture
from fedcomp.report.runfolder import RunFolder
from fedcomp.report.scales import ScalesPicture
from fedcomp.report.trackers.tracked import Tracked
from fedcomp.runtime import Hooks
from fedcomp.setup import Setup
from fedcomp.submitted import read
from fedcomp.training.loop import evaluate
from fedcomp.training.tasks import TASKS
from strategies.admission import Admission
from strategies.build import build_strategy
from strategies.clock import Clock
from strategies.compressed import Compressed
from strategies.deployed import deploy
from strategies.gathering import gather
from strategies.grid import CompressingGrid
from strategies.handshake import meet
from strategies.state import StrategyState

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

    from fedcomp.settings import Job
    from fedcomp.tensors import Tensors


def make_app(hooks: Hooks | None = None, setup: Setup | None = None) -> ServerApp:
    """Return the ServerApp.

    Parameters
    ----------
    hooks
        Observers beside the run folder, and the order to stop.
    setup
        The run's parts where the process has built them already.
    """
    app = ServerApp()
    given = hooks or Hooks()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        job = read(context.run_config, context.run_id)
        if job.settings.engine.remote:
            deploy(grid, job, context.run_config, serve)
        else:
            serve(grid, job, setup or Setup(job.settings), given)

    return app


def serve(grid: Grid, job: Job, setup: Setup, hooks: Hooks) -> None:
    """Run a job's rounds on any of Flower's grids."""
    settings = job.settings
    strategy = build_strategy(settings)
    ledger = Ledger(setup.manifest)
    link = ServerLink(setup.session(job.run_id), setup.take_initial())
    task = setup.dataset.task

    def measure(model: Tensors) -> dict[str, float]:
        load_tensors(setup.module, model)
        return evaluate(setup.module, setup.dataset.test, settings.train, task=task)

    folder = Path(job.folder)
    table = RunFolder(job, folder, setup, hooks.account)
    pictures = (
        ScalesPicture(setup.manifest, folder / "scales.png"),
        RelevancePicture(setup, folder, lambda: link.exact),
    )
    curves = CurvesPicture(folder, settings.targets)
    step = settings.server_step.create(setup)
    parts: dict[str, Part] = {
        "link": link,
        "ledger": ledger,
        "step": step,
        "strategy": StrategyState(strategy),
        "tables": table,
    }

    admission = None
    if settings.engine.remote:
        bind = bool(getattr(settings.engine, "bind_sites", True))
        parts["admission"] = admission = Admission(grid, settings.clients, bind=bind)
    checkpoints = Checkpoints(folder, job.run_id, parts, hooks.clients)
    saved = checkpoints.load()
    if job.began and saved is None:
        where = (
            "a server has to work in the folder in which it did"
            if settings.engine.remote
            else "a run in a deployment goes on in a deployment"
        )
        msg = (
            f"the run had begun, and {folder} holds no checkpoint of it that is whole: {where};"
            " or start the run anew"
        )
        raise DataError(msg)
    timeout, clients = settings.engine.start_timeout, settings.clients
    if admission is None:
        sites = meet(grid, clients, ledger, hooks.stop, timeout)
    else:
        sites = gather(grid, clients, ledger, admission, link.session.digest, timeout)

    clock = Clock(settings.network, settings.seed) if settings.network.is_simulated else None
    if settings.network.is_measured:
        link.session.rehearse(link.exact)
    Compressed(
        strategy,
        grid=CompressingGrid(grid, link, ledger, sites, hooks.stop, step.view, admission, clock),
        link=link,
        ledger=ledger,
        step=step,
        settings=settings,
        evaluate=measure,
        observers=[*pictures, table, curves, Tracked(job, hooks.stop), *hooks.observers],
        checkpoints=checkpoints,
    ).start(TASKS[task].metric, Trained.from_json(saved) if saved else None)


app = make_app()
