"""Finished batches of an evaluation, kept on disk so that an interrupted one can be resumed."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nuat.config import ThreatConfig
from nuat.core import digest
from nuat.data import ImageSet
from nuat.distributed.world import World
from nuat.evaluation.answers import Answers, joined
from nuat.files import not_writable, write_text
from nuat.hardware import versions

_SECONDS_BETWEEN_SAVES = 5.0


class PartialResults:
    """The finished batches of an evaluation, by job and position of the batch's first image.

    ``key`` stands for model, images and settings; a file with another key, or a damaged one, is not used. With ``keep``
    the file stays when the evaluation ends well, for a caller that has more to do. If the file may not be written, or
    its folder is removed, the evaluation goes on without it, and ``failure`` says why.
    """

    def __init__(self, path: Path | None, key: str, *, keep: bool = False) -> None:
        self.failure = ""
        """Why the file could not be written; empty: it could."""
        self._path = path
        self._key = key
        self._keep = keep
        self._done: dict[str, dict[str, Any]] = {}
        self._saved = time.monotonic()
        if path is not None and path.is_file():
            with contextlib.suppress(OSError, ValueError, RecursionError):  # ValueError: not JSON, or not UTF-8
                values = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(values, dict) and values == self._content(values.get("jobs")):
                    self._done = values["jobs"]

    def share(self, world: World) -> None:
        """Send what the first process has read to all."""
        self._done = world.agree(self._done)

    def has(self, job: str, start: int) -> bool:
        """Return whether the batch from image ``start`` is finished for a job."""
        return str(start) in self._done.get(job, {})

    def put(
        self, job: str, start: int, answers: Mapping[str, Answers], *, seconds: float, forwards: int, backwards: int
    ) -> None:
        """Keep a finished batch: the answers by attack of the job, in its order, and what the batch cost."""
        self._done.setdefault(job, {})[str(start)] = {
            "answers": {name: one.to_json() for name, one in answers.items()},
            "cost": [seconds, forwards, backwards],
        }
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self._save()

    def collect(self, job: str, name: str) -> tuple[Answers, float, int, int]:
        """Return the answers under an attack on the images that its job took, in order, and the cost of the whole job.

        The cost is seconds, and images forward and backward.
        """
        done = self._done.get(job, {})  # a job that found no image to attack has no batch
        batches = [done[start] for start in sorted(done, key=int)]
        answers = joined([Answers.from_json(batch["answers"][name]) for batch in batches])
        seconds, forwards, backwards = (sum(batch["cost"][i] for batch in batches) for i in range(3))
        return answers, seconds, forwards, backwards

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Save the finished batches if the block fails or is interrupted; if it ends well, too, or remove the file."""
        try:
            yield
        except BaseException:
            self._save()
            raise
        if self._keep:
            self._save()
        elif self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _content(self, jobs: Any) -> dict[str, Any]:
        """Return the content of the file, with a checksum."""
        checksum = digest.of_tensors(settings=self._key + json.dumps(jobs))
        return {"key": self._key, "jobs": jobs, "checksum": checksum}

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._path is not None and self._done:
            try:
                write_text(self._path, json.dumps(self._content(self._done)))
            except OSError as error:
                if not not_writable(error):
                    raise
                self.failure = f"{self._path}: {error.strerror or error}"
                self._path = None


def results_key(
    model: nn.Module,
    images: ImageSet,
    logits: Tensor,
    threat: ThreatConfig,
    seed: int,
    batch_size: int,
    order: tuple[int, ...] | None,
    precision: str,
    temperature: float,
    compiled: bool = False,
) -> str:
    """Return a digest of everything that the result of an attack depends on.

    Of the model these are its tensors, and the classes that it predicts from the first ``logits`` [B, N], as the code
    of a stranger may change. The bits of the logits are left out: another number of threads changes them.
    """
    settings = [threat.norm, threat.eps, threat.pgd_alpha, seed, batch_size, versions(), order, precision, temperature]
    settings += [] if threat.also is None else [threat.also]
    settings += ["compiled"] if compiled else []
    return digest.of_tensors(
        *model.state_dict().values(), images.images, images.labels, logits.argmax(dim=1), settings=json.dumps(settings)
    )
