"""The files by which others build, check, cite and contribute parse, and name what there is."""

import importlib.util
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from .commands import check_command

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "method")]
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
CONTAINERS = ("Dockerfile", "lmdbench.def")
# What a build reads
SOURCES = {"pyproject.toml", "README.md", "LICENSE", *SETUPTOOLS["package-dir"].values()}


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    return set(re.findall(r"^([\w./-]+):", text, re.MULTILINE))


def commands(text: str) -> list[list[str]]:
    """The commands of a script, in words, without what a workflow fills in."""
    lines = re.sub(r"\$\{\{.*?\}\}", "FILLED", text).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_there_is(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow[True]  # what YAML makes of "on"
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        assert ("run" in step) != ("uses" in step)
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["fetch-depth"] == 0  # with the tags that tell the version
        for program, *words in commands(step.get("run", "")):
            if program == "make":
                assert words[0] in targets(), words
            if program.endswith("lmdbench"):
                check_command(words)
            for word in words:
                assert not word.startswith("tests/") or (ROOT / word).exists(), word
    assert not any(re.search(r"\bpassword|secrets\.", str(step)) for step in steps)


def test_links_of_the_readme_lead_somewhere_from_a_page_elsewhere():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "docs/readme_for_pypi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    there = "https://github.com/some/fork"
    text = "[a\nb](docs/x.md#y) ![p](docs/i.svg) [out](https://a.org) [here](#top)"
    assert module.with_absolute_links(text, there, "v1.2") == (
        f"[a\nb]({there}/blob/v1.2/docs/x.md#y) ![p]({there}/raw/v1.2/docs/i.svg) "
        "[out](https://a.org) [here](#top)"
    )
    readme = module.with_absolute_links((ROOT / "README.md").read_text(), there, "v1.2")
    targets = re.findall(r"\]\(([^)]+)\)", readme)
    assert all(target.startswith(("https://", "#")) for target in targets)
    ours = [target for target in targets if target.startswith(there)]
    assert len(ours) > 20
    for target in ours:
        path = re.sub(r"^.*/(blob|raw)/v1\.2/|#.*$", "", target)
        assert (ROOT / path).exists(), path


def test_jobs_need_jobs_that_there_are():
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text())["jobs"]
        assert {job["needs"] for job in jobs.values() if "needs" in job} <= jobs.keys()


def test_the_oldest_python_and_torch_are_tested():
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["linux"]
    versions = matrix["strategy"]["matrix"]
    assert PROJECT["project"]["requires-python"] == f">={versions['python'][0]}"
    oldest = dict(re.split("[>=]+", name) for name in PROJECT["project"]["dependencies"])
    first = dict(word.split("==") for word in versions["torch"][0].split())
    for name, version in first.items():
        assert version == f"{oldest[name]}.0"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_asks_something(path):
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in form["body"]} <= FIELDS
    assert all(field["attributes"]["label"] for field in asked)
    assert len({field["id"] for field in asked}) == len(asked)


def test_the_citation_names_what_it_must():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["project"]["license"]
    assert (
        citation["title"]
        == f"lmdbench: {PROJECT['project']['description'][0].lower()}"
        + (PROJECT["project"]["description"][1:])
    )
    for work in citation["references"]:
        assert {"authors", "title", "type"} <= work.keys()


def test_hooks_before_a_commit_do_what_make_lint_does():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in local["hooks"]:
        first = hook["entry"].removesuffix(" --force-exclude").replace(".venv/bin", "$(BIN)")
        assert f"\t{first}" in makefile
        assert (local["repo"], hook["language"]) == ("local", "system")


def copied(name: str) -> dict[str, str]:
    """What a definition of a container takes from the repository → where it lies there."""
    text = (ROOT / "containers" / name).read_text()
    found = {}
    if name == "Dockerfile":
        folder = re.search(r"^WORKDIR (\S+)$", text, re.MULTILINE)[1]
        for words in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
            *sources, target = words.split()
            for source in sources:
                found[source] = f"{folder}/{source if target == './' else target}"
    else:
        (block,) = re.findall(r"^%files\n((?:    .+\n)+)", text, re.MULTILINE)
        found = dict(line.split() for line in block.splitlines())
    return found


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_built_from_what_a_build_reads(name):
    assert copied(name) == {source: f"/src/{source}" for source in SOURCES}
    assert all((ROOT / source).exists() for source in SOURCES)
    text = (ROOT / "containers" / name).read_text()
    (extras,) = re.findall(r"pip install --no-cache-dir '\.\[(.+)\]'", text)
    assert {*extras.split(",")} <= PROJECT["project"]["optional-dependencies"].keys()
    assert "LMDBENCH_DATA=/data LMDBENCH_RESULTS=/results LMDBENCH_CACHE=/cache" in text


def instructions(text: str) -> list[list[str]]:
    """The words of a Dockerfile's instructions, as Docker reads them: comments and empty lines do
    not end one that a backslash carries on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split() for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def test_an_empty_line_and_a_comment_do_not_end_an_instruction():
    assert instructions("RUN a \\\n\n# why\n b\nENV c=d\n") == [["RUN", "a", "b"], ["ENV", "c=d"]]


def test_the_dockerfile_has_instructions_alone():
    known = {"FROM", "RUN", "ARG", "WORKDIR", "COPY", "ENV", "ENTRYPOINT"}
    (first, *_), *others = instructions((ROOT / "containers" / "Dockerfile").read_text())
    assert first == "FROM"
    assert {first, *(words[0] for words in others)} == known
    assert not known & {word for words in others for word in words[1:]}


def test_the_apptainer_definition_has_sections_that_there_are():
    text = (ROOT / "containers" / "lmdbench.def").read_text()
    assert text.startswith("Bootstrap: docker\nFrom: ")
    sections = re.findall(r"^%(\w+)$", text, re.MULTILINE)
    assert sections == ["arguments", "files", "post", "environment", "runscript", "test"]
    assert {*re.findall(r"\{\{ (\w+) \}\}", text)} == {"version"}


def test_a_package_has_every_module_and_every_file_beside_them():
    """Which modules and files of data a wheel holds is written down in pyproject.toml."""
    places = SETUPTOOLS["package-dir"]
    packages, left = set(), []
    for package, folder in places.items():
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder).parent.parts
            name = ".".join((package, *inner))
            if "__pycache__" in path.parts or path.is_dir():
                continue
            if path.suffix == ".py":
                packages.add(name)
            elif not is_data(package, path.relative_to(ROOT / folder)):
                left.append(str(path.relative_to(ROOT)))
    assert packages == {*SETUPTOOLS["packages"]}
    assert left == []


def is_data(package: str, path: Path) -> bool:
    """Whether a file, by its place in a package's folder, is among those that are shipped."""
    for name, patterns in SETUPTOOLS["package-data"].items():
        inner = name.removeprefix(package).lstrip(".").replace(".", "/")
        if name == package or name.startswith(f"{package}."):
            wanted = [f"{inner}/{pattern}".lstrip("/") for pattern in patterns]
            if any(fnmatch(path.as_posix(), pattern) for pattern in wanted):
                return True
    return False
