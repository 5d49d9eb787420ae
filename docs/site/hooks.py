"""What mkdocs makes of the repository besides the pages in docs/.

Pages at the top of the repository, and source files that pages link to, become pages of the site,
and links to them are rewritten: they work on a code host as they stand, here without a network.
"""

from __future__ import annotations

import importlib
import inspect
import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md")
LINK = re.compile(r"(?<=\]\()([^()\s#:]+)(?=[)#])")  # to another file of the repository
NESTED = re.compile(r"^  (?=- )", re.MULTILINE)  # two spaces make a list in a list there, four here
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml"}

LEADERBOARD = "leaderboard"
COMMANDS, PYTHON = "reference/commands.md", "reference/python.md"
# Heading → the public names below it; together they are all of `lmdbench.__all__`
NAMES: Mapping[str, tuple[str, ...]] = {
    "What the commands do": (
        *("run", "fit", "RunOptions", "SplitSpec", "load_runs", "compare", "plan_power", "predict"),
    ),
    "A method": ("Method", "Start", "Task", "Batch", "Images", "Encoder", "Pretrained"),
    "Its settings": ("at_least", "at_most", "Choice", "LogUniform", "Times", "Uniform"),
    "A data set": ("Dataset", "Part", "Split"),
    "Registering": (
        *("load_plugin", "register_backbone", "register_dataset", "register_executor"),
        *("register_logger", "register_method", "register_metric", "register_plot"),
        *("register_sampler", "register_view"),
    ),
    "Errors": ("UserError",),
    "Statistics on arrays": ("inference", "metrics"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that don't lie in docs/."""
    for name in PAGES:
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, text in ((COMMANDS, commands_page()), (PYTHON, python_page())):
        files.append(File.generated(config, name, content=text))
    for path in sorted(linked_sources()):
        page = File.generated(
            config,
            site_path(path),
            content=source_page(path),
            inclusion=InclusionLevel.NOT_IN_NAV,
        )
        files.append(page)
    for name, text in leaderboard().items():
        files.append(File.generated(config, f"{LEADERBOARD}/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Rewrite links to where the site has what they lead to, and lists in lists as mkdocs reads
    them."""
    if page.file.src_uri.startswith(("source/", "reference/")):
        return markdown
    path = repository_path(page.file.src_uri)
    return LINK.sub(lambda link: rewritten(link[1], path), NESTED.sub("    ", markdown))


def rewritten(link: str, path: str) -> str:
    """A link that stands in the file ``path`` of the repository, as the site's page needs it."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return posixpath.relpath(site_path(target), posixpath.dirname(site_path(path)) or ".")


def repository_path(page: str) -> str:
    """Where a page of the site, not a generated one, lies in the repository."""
    return page if page in PAGES else f"docs/{page}"


def site_path(path: str) -> str:
    """Where the site has a file of the repository."""
    if path == "README.md":
        return "index.md"
    if path in PAGES:
        return path
    if path.startswith("docs/") and not path.startswith("docs/examples/"):
        return path.removeprefix("docs/")
    return f"source/{path}.md"


def linked_sources() -> set[str]:
    """The source files that pages link to, by their paths in the repository."""
    found = set()
    for path in (*(ROOT / name for name in PAGES), *(ROOT / "docs").glob("*.md")):
        name = path.relative_to(ROOT).as_posix()
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
            if site_path(target).startswith("source/") and (ROOT / target).is_file():
                found.add(target)
    return found


def leaderboard() -> dict[str, str]:
    """The pages of the leaderboard of the reference results, by name."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / LEADERBOARD
        command = [sys.executable, "-m", "lmdbench", "results", "leaderboard", "--output", output]
        subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        return {path.name: path.read_text(encoding="utf-8") for path in output.iterdir()}


def source_page(path: str) -> str:
    """A source file as a page, which searches leave out."""
    text = (ROOT / path).read_text(encoding="utf-8")
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{language}\n{text}````\n"


def commands_page() -> str:
    """Each command's own help."""
    from lmdbench.cli.commands import cli

    lines = ["# Commands", "", "What `--help` says of each command."]
    for name, command, context in walked(cli, "lmdbench"):
        lines += ["", f"## {name}", "", "````text", command.get_help(context), "````"]
    return "\n".join(lines) + "\n"


def walked(
    command: Any, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, Any, click.Context]]:
    """A command and all below it, each with its name and a context that its help is written in."""
    settings = {**command.context_settings, "max_content_width": 100, "terminal_width": 100}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context.command_path, command, context
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        inner = command.get_command(context, name)
        if not inner.hidden:
            yield from walked(inner, name, context)


def python_page() -> str:
    """Where the descriptions of all public names go, which mkdocstrings takes from the source."""
    lines = [
        "# Python",
        "",
        "All of it is imported from `lmdbench`. [From Python](../python.md) shows how.",
    ]
    for heading, names in NAMES.items():
        lines += ["", f"## {heading}"]
        for name in names:
            lines += ["", *described(name)]
    return "\n".join(lines) + "\n"


def described(name: str) -> list[str]:
    """The lines that bring a public name's description. Those of functions that another function
    makes can't be read from the source."""
    thing = getattr(importlib.import_module("lmdbench"), name)
    if "<locals>" in getattr(thing, "__qualname__", ""):
        return [
            f"### lmdbench.{name}",
            "",
            f"`{name}{inspect.signature(thing)}`",
            "",
            thing.__doc__,
        ]
    return [f"::: {home(name)}", "    options:", f"      heading: lmdbench.{name}"]


def home(name: str) -> str:
    """The module that a public name lives in, with the name; of a module its own."""
    thing = getattr(importlib.import_module("lmdbench"), name)
    module = getattr(thing, "__module__", None)
    return f"{module}.{name}" if module else str(thing.__name__)
