"""`ftagent run` and `ftagent stop`."""

import argparse
import logging
import socket
import sys

from ftagent.layout import Layout

log = logging.getLogger("ftagent")


def main(arguments=None):
    # type: (object) -> int
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="ftagent", description="Watches one training job from beside it.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser(
        "run", help="start a job, or adopt the one that runs: ftagent run --dir DIR -- python train.py"
    )
    run.add_argument("--dir", required=True, help="the run folder: logs, spool, evidence")
    run.add_argument("--url", default="", help="the service; without one the job is only kept")
    run.add_argument("--token-file", default="", help="holds the agent's token")
    run.add_argument("--job", default="job")
    run.add_argument("--node", default=socket.gethostname())
    run.add_argument("--agent", default=socket.gethostname())
    run.add_argument("--nproc", type=int, default=0, help="start N copies with RANK, WORLD_SIZE, MASTER_ADDR ... set")
    run.add_argument("--pattern", default="", help="a regular expression: further log lines to send")
    run.add_argument("--spool-bytes", type=int, default=0, help="bound of what is kept while the service is away")
    run.add_argument("--own-status", action="store_true", help="end with 0 when the job is over, not with the job's status")
    run.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND")
    stop = verbs.add_parser("stop", help="end the job of a run folder")
    stop.add_argument("--dir", required=True)
    stop.add_argument("--grace", type=float, default=5.0, help="seconds before SIGKILL")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return _run(options) if options.verb == "run" else _stop(options)


def _run(options):
    # type: (argparse.Namespace) -> int
    from ftagent.agent import Agent, AgentError

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    asked = {name: value for name, value in vars(options).items() if name not in ("verb", "dir", "own_status")}
    try:
        agent = Agent(options.dir, dict(asked, command=command))
        agent.run()
        return 0 if options.own_status else agent.job.status()
    except (AgentError, OSError, ValueError) as error:
        log.error("%s", error)
        return 2


def _stop(options):
    # type: (argparse.Namespace) -> int
    from ftagent.watch import Watcher, end_tree

    paths = Layout(options.dir)
    last = paths.last_attempt()
    if last < 0:
        log.error("%s holds no job", paths.root)
        return 2
    left = end_tree(Watcher(paths.attempt(last)), options.grace)
    if left:
        log.error("processes %s cannot be ended (in the kernel)", left)
    return 1 if left else 0
