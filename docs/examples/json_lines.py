"""A logger of one's own: every run's settings, epochs and scores as lines of one file."""

import json
from pathlib import Path

from lmdbench.training.loggers import Logger, register_logger


@register_logger("json-lines", title="A line of JSON for each event of a run")
class JsonLines(Logger):
    def begin(self, record, settings, directory):
        self.file = Path(directory) / "events.jsonl"
        self.say("begin", method=record["spec"]["method"], seed=record["spec"]["seed"], **settings)

    def epoch(self, history):
        self.say("epoch", **history[-1])

    def end(self, scores):
        if scores is not None:  # else it was stopped
            self.say("scores", **scores["test"])

    def fail(self, reason):
        self.say("failed", reason=reason)

    def say(self, event, **values):
        with self.file.open("a") as lines:
            lines.write(json.dumps({"event": event, **values}) + "\n")
