"""What the line would do: decided on a copy of its stages, of which nothing leaves and nothing is kept."""

from collections.abc import Sequence

from holdfast.assembly import assemble
from holdfast.config import Config
from holdfast.events import Said
from holdfast.pipeline import Pipeline
from holdfast.wire import Heard


class Twin:
    """A copy of a pipeline that is given its memory anew each time it is asked."""

    def __init__(self, config: Config, pipeline: Pipeline) -> None:
        self._config, self._pipeline = config, pipeline
        self._copy: Pipeline | None = None

    def decide(self, inputs: Sequence[Heard]) -> list[Said]:
        """What the pipeline would say to these inputs now."""
        if self._copy is None:
            self._copy = assemble(self._config, live=False).pipeline
        self._copy.restore(self._pipeline.snapshot())
        return self._copy.decide(self._pipeline.now, inputs)
