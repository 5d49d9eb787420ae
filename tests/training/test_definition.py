"""What is refused as a method is registered, and what is not."""

import pytest

from lmdbench.training.method import METHODS

HEAD = """
from dataclasses import dataclass, field
import torch.nn.functional as F
from lmdbench.training.method import METHODS, Method, register_method

class Trains(Method):  # for short: in no registry
    def loss(self, batch):
        return F.cross_entropy(self.model(batch.images), batch.labels)

"""

NO_SENSE = {
    "trains": ('class Mine(Trains):\n    trains = "body"', "trains is 'body', but must be"),
    "passes number": ("class Mine(Trains):\n    passes = 2", "passes is 2, but must be a tuple"),
    "passes three": ("class Mine(Trains):\n    passes = (1, 1, 1)", "passes is (1, 1, 1), but"),
    "passes text": ('class Mine(Trains):\n    passes = ("1", 1)', "passes is ('1', 1), but must"),
    "settings without dataclass": (
        "class Mine(Trains):\n    class Settings(Method.Settings):\n        width: int = 3",
        "the line @dataclass(frozen=True, kw_only=True) is not above its class Settings, so that "
        "these are no settings: width",
    ),
    "settings of another kind": (
        "class Mine(Trains):\n    class Settings:\n        pass",
        "the line @dataclass(frozen=True, kw_only=True) is not above its class Settings",
    ),
    "no default": (
        "class Mine(Trains):\n    @dataclass(frozen=True, kw_only=True)\n"
        "    class Settings(Method.Settings):\n        width: int",
        "its setting width has no default; give it one: width: … = …",
    ),
    "made default": (
        "class Mine(Trains):\n    @dataclass(frozen=True, kw_only=True)\n"
        "    class Settings(Method.Settings):\n        widths: list = field(default_factory=list)",
        "its setting widths has no default",
    ),
    "default without a type": (
        "class Mine(Trains):\n    @dataclass(frozen=True, kw_only=True)\n"
        "    class Settings(Method.Settings):\n        epochs = 5",
        "its setting epochs is given a default without a type, which has no effect",
    ),
    "the same without dataclass": (
        "class Mine(Trains):\n    class Settings(Method.Settings):\n        epochs = 5",
        "its setting epochs is given a default without a type, which has no effect",
    ),
    "deviations": (
        'class Mine(Trains):\n    deviations = "The last epoch counts."',
        'deviations must be a tuple, as in ("The last epoch counts.",)',
    ),
    "scaffolding": (
        'class Mine(Trains):\n    scaffolding = "projector"',
        'scaffolding must be a tuple, as in ("projector",)',
    ),
    "authors": (
        'class Mine(Trains):\n    authors = {"epoch": 200}',
        "authors: unknown setting 'epoch'. Did you mean epochs",
    ),
    "misspelt attribute": (
        'class Mine(Trains):\n    sampelr = "class-balanced"',
        "nothing reads its sampelr. Did you mean sampler?",
    ),
    "misspelt hook": (
        "class Mine(Trains):\n    def optimisers(self):\n        return {}",
        "nothing reads its optimisers. Did you mean optimizers?",
    ),
    "misspelt settings": (
        "class Mine(Trains):\n    class Setting(Method.Settings): ...",
        "nothing reads its Setting. Did you mean Settings?",
    ),
    "sampler": ("class Mine(Trains):\n    sampler = 3", "sampler is 3, but must be a name, a fun"),
    "nothing": ("class Mine(Method):\n    pass", "it defines neither loss, step nor epoch"),
    "finish after no epochs that train": (
        "class Mine(Method):\n    def finish(self): ...",
        "it defines neither loss, step nor epoch",
    ),
    "no epochs and no more": (
        "class Mine(Method):\n    epochs = 0",
        "it defines neither loss, step nor epoch; one that trains nothing has epochs = 0, and",
    ),
    "no setting epochs": (
        "class Mine(Trains):\n    @dataclass(frozen=True, kw_only=True)\n"
        "    class Settings:\n        width: int = 3",
        "it has no setting epochs",
    ),
}

SENSE = {
    "inherits its loss": 'class Mine(METHODS.get("focal")):\n    pass',
    "inherits from one not registered": "class Mine(Trains):\n    pass",
    "inherits finish and no epochs": 'class Mine(METHODS.get("ncm")):\n    pass',
    "inherits what authors say, with other settings": (
        'class Mine(METHODS.get("balms")):\n    @dataclass(frozen=True, kw_only=True)\n'
        "    class Settings(Method.Settings):\n        meta_lr: float = 0.1\n"
        "        power: float = 0.0"
    ),
    "rounds for epochs": (
        "class Mine(Method):\n    @dataclass(frozen=True, kw_only=True)\n"
        "    class Settings:\n        rounds: int = 3\n    @property\n"
        "    def epochs(self):\n        return self.settings.rounds\n"
        "    def epoch(self, number):\n        return {}"
    ),
    "no epochs, and finish": "class Mine(Method):\n    epochs = 0\n    def finish(self): ...",
    "no epochs by property, and predict": (
        "class Mine(Method):\n    @property\n    def epochs(self):\n        return 0\n"
        "    def predict(self, images):\n        return -self.model(images)"
    ),
    "no epochs by setting, and finish": (
        "class Mine(Method):\n    @dataclass(frozen=True, kw_only=True)\n"
        "    class Settings(Method.Settings):\n        epochs: int = 0\n"
        "    def finish(self): ..."
    ),
    "bounds alone in its settings": (
        "class Mine(Trains):\n    class Settings(Method.Settings):\n"
        "        def __post_init__(self):\n            super().__post_init__()"
    ),
    "helpers named like hooks": (
        "class Mine(Method):\n    def losses(self, batch): ...\n"
        "    def step(self, batch):\n        return {}\n    def steps(self): ..."
    ),
    "a step alone": "class Mine(Method):\n    def step(self, batch):\n        return {}",
    "a function for a sampler": (
        "class Mine(Trains):\n"
        '    sampler = lambda labels: METHODS.get("gcl").sampler(labels)\n'
        "    passes = (0.5, 1)"
    ),
}


@pytest.fixture
def write(tmp_path):
    """Writes a plug-in with that class, whose method has the folder's name: its name and file."""
    name = "".join(c if c.isalnum() else "-" for c in tmp_path.name)

    def written(body):
        path = tmp_path / f"{name.replace('-', '_')}.py"
        path.write_text(f'{HEAD}@register_method("{name}")\n{body}\n')
        return name, path

    yield written
    METHODS._things.pop(name, None)


@pytest.mark.parametrize(("body", "message"), NO_SENSE.values(), ids=NO_SENSE)
def test_what_makes_no_sense_is_refused_in_one_line(toy_run, lmdbench, write, body, message):
    name, path = write(body)
    outcome = toy_run(name, "--plugin", path, "--dry-run")
    assert outcome.code == 2
    (line,) = outcome.err.strip().splitlines()
    assert f"plug-in {path}: method '{name}': {message}" in line
    assert lmdbench("methods", "show", name).code == 2  # it was not registered


@pytest.mark.parametrize("body", SENSE.values(), ids=SENSE)
def test_what_makes_sense_is_taken(toy_run, lmdbench, write, body):
    name, path = write(body)
    outcome = toy_run(name, "--plugin", path, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert lmdbench("methods", "show", name).code == 0


def test_a_plain_function_for_a_sampler_trains(toy_run, write):
    name, path = write(SENSE["a function for a sampler"])
    outcome = toy_run(name, "--plugin", path, "--set", "epochs=1")
    assert outcome.code == 0, outcome.err
