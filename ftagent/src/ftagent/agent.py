"""The agent's main loop: look, tell, obey."""

import fcntl
import logging
import os
import re
import signal
import time

from ftagent import layout
from ftagent.job import Job
from ftagent.lines import PATTERN
from ftagent.orders import Orders
from ftagent.sender import Sender
from ftagent.spool import Spool

log = logging.getLogger("ftagent")

_LOOK_S = 0.1
_TELL_S = 0.5

# While the service is away the spool should last: news still go in at once, beats and steps now and then.
_TELL_AWAY_S = 2.0


class AgentError(RuntimeError):
    """What the person who started the agent has to mend."""


class Agent:
    """One run folder's agent; only one at a time holds its lock."""

    def __init__(self, root, options):
        # type: (str, dict) -> None
        self.layout = layout.Layout(root)
        layout.make_folder(self.layout.root)
        self._lock_file = open(self.layout.lock, "a")  # held open for the life of the agent
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AgentError("another agent runs in %s" % self.layout.root) from None
        self.settings = self._settings(options)
        self.job = Job(self.layout, self.settings, _pattern(self.settings.get("pattern")))
        self.spool = Spool(self.layout.spool, int(self.settings.get("spool_bytes") or 64 << 20))
        self.orders = Orders(self.job, lambda: self._tell(time.time()))
        self.sender = None
        if self.settings.get("url"):
            self.sender = Sender(
                self.spool, self.job.lock, self.settings["url"], self.settings["token_file"], self.orders.hear
            )
        self._leaving = False

    def run(self):
        # type: () -> None
        """Look and tell until the job is over and nobody wants more, or SIGTERM: then the job runs on."""
        for word in (signal.SIGTERM, signal.SIGINT):
            signal.signal(word, self._leave)
        self.job.begin()
        self.orders.start()
        if self.sender:
            self.sender.start()
        told_at = 0.0
        while not self._leaving:
            self.job.watcher.wait(_LOOK_S)
            now = time.time()
            news = self.job.look(now)
            apart_s = _TELL_S if self.sender is None or self.sender.heard else _TELL_AWAY_S
            if news or not 0.0 <= now - told_at < apart_s:
                told_at = now
                self._tell(now)
            if self._is_done():
                break
        if self.sender:
            self.sender.leave(2.0)

    def _tell(self, now):
        # type: (float) -> None
        anew = self.sender is not None and self.sender.resync
        with self.job.lock:
            told = self.job.take(now, anew)
            if self.sender is not None:
                self.sender.resync = False if anew else self.sender.resync
                self.spool.lose(self.job.take_lost())
                for attempt, records in told:
                    self.spool.put(self._envelope(attempt, now), records)
            try:
                self.job.save()
            except OSError as error:
                log.warning("what was told is not kept: %s", error)  # the next agent tells some of it again

    def _envelope(self, attempt, now):
        # type: (int, float) -> dict
        envelope = {name: self.settings[name] for name in ("agent", "job", "node")}
        return dict(envelope, attempt=attempt, sent_at=now)

    def _is_done(self):
        # type: () -> bool
        if not self.job.is_over():
            return False
        return self.sender is None or (self.sender.released and not len(self.spool))

    def _leave(self, number, frame):
        # type: (int, object) -> None
        self._leaving = True

    def _settings(self, options):
        # type: (dict) -> dict
        """What was asked when the job was started; where to send, and with what token, may change with each agent."""
        kept = layout.read_dict(self.layout.settings)
        if not kept:
            if not options.get("command"):
                raise AgentError("%s holds no job, and no command was given" % self.layout.root)
            umask = os.umask(0o077)
            os.umask(umask)
            kept = dict(options, env=dict(os.environ), cwd=os.getcwd(), umask=umask)
        for name in ("url", "token_file", "pattern", "spool_bytes"):
            if options.get(name):
                kept[name] = options[name]
        layout.write_json(self.layout.settings, kept)
        return kept


def _pattern(extra):
    # type: (object) -> object
    if not extra:
        return PATTERN
    try:
        return re.compile("%s|%s" % (PATTERN.pattern, extra), re.IGNORECASE)
    except re.error as error:
        raise AgentError("--pattern %r: %s" % (extra, error)) from None
