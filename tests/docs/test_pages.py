"""What the documentation says holds: its commands parse, those marked as run do run, its numbers are the kept ones.

A block of code below the line `<!-- run -->` is run as it is, with fewer rounds and epochs. All others are parsed.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fkal.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
RUN = "<!-- run -->"
SMALLER = {"FKAL_ACQUISITION__ROUNDS": "2", "FKAL_TRAIN__EPOCHS": "2", "FKAL_PRETRAIN__EPOCHS": "1"}


def pages() -> list[Path]:
    """README.md, CONTRIBUTING.md and every page of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class CodeBlock:
    """A fenced or indented block; `marked` if the line before it says that a test runs it."""

    page: Path
    language: str
    text: str
    marked: bool


def code_blocks(page: Path) -> list[CodeBlock]:
    """The blocks of code of a page, in their order."""
    blocks, language, lines, marked, fenced = [], "", [], False, False
    for line in [*page.read_text(encoding="utf-8").splitlines(), "end"]:
        if line.lstrip().startswith("```"):
            if fenced:
                blocks.append(CodeBlock(page, language, "\n".join(lines), marked))
                lines, marked = [], False
            fenced, language = not fenced, line.strip().strip("`")
        elif fenced or line.startswith("    "):
            lines.append(line)
        elif line.strip() or lines:
            if lines:
                blocks.append(CodeBlock(page, "", "\n".join(each[4:] for each in lines), marked))
                lines, marked = [], False
            marked = line.strip() == RUN
    return blocks


def commands(block: CodeBlock) -> list[str]:
    """The `fkal` commands of a block of shell lines, without environment, comment, pipe and redirection."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        optional = re.sub(r"\[(--[^\]]*)\]", r"\1", line.split(" #")[0])
        for part in re.split(r"&&|\||;|>", optional):
            match = re.match(r"\s*(?:[A-Z_]+=\S*\s+)*(?:\.venv/bin/)?(fkal(?: .*)?)$", part.rstrip())
            if match:
                found.append(match[1].strip())
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a page's prose: no code, tables, headings, pictures or comments."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    kept = [line for line in text.splitlines() if not line.startswith(("    ", "|", "#", "!["))]
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", "\n".join(kept))
    paragraphs = re.split(r"\n\s*\n|\n- ", text)
    return [
        sentence
        for paragraph in paragraphs
        for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split()).removeprefix("- "))
        if len(sentence.split()) > 1
    ]


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_about_120_lines():
    assert sum(bool(line.strip()) for line in README.splitlines()) <= 130


def test_half_of_its_sentences_have_at_most_14_words():
    lengths = [len(sentence.split()) for sentence in sentences(README)]
    assert len(lengths) > 40
    assert median(lengths) <= 14 and max(lengths) <= 30


GUIDES = [page for page in pages() if page.parent.name in ("guides", "concepts")]


@pytest.mark.parametrize("page", [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "docs" / "getting_started.md"], ids=str)
def test_guides_and_concepts_are_as_plain(page):
    lengths = [len(sentence.split()) for sentence in sentences(page.read_text(encoding="utf-8"))]
    assert median(lengths) <= 14 and max(lengths) <= 45


def test_the_first_screen_says_when_it_helps_and_when_not():
    screen = "\n".join(README.splitlines()[:24])
    for words in ("**It helps**", "**It does not help**", "one label per image"):
        assert words in screen


def shell_lines() -> Iterator[tuple[str, str]]:
    """Each `fkal` command of the documentation with the page that has it."""
    for page in pages():
        for block in code_blocks(page):
            if block.language in ("", "bash", "console", "sh"):
                for command in commands(block):
                    yield str(page.relative_to(ROOT)), command


@pytest.mark.parametrize(("page", "command"), sorted(set(shell_lines())))
def test_a_command_of_the_documentation_parses(page, command):
    words = shlex.split(command)[1:]
    parser, path = get_command(app), ["fkal"]
    while words and words[0] in getattr(parser, "commands", {}):
        path.append(words.pop(0))
        parser = parser.commands[path[-1]]
    assert len(path) > 1 or words[:1] in ([], ["--version"], ["--help"]), f"{page}: no such command: {command}"
    if len(path) > 1 and "--help" not in words:
        parser.make_context(" ".join(path), words)  # refuses unknown options, wrong types and missing arguments


def test_readme_and_guides_have_commands_to_parse():
    assert len(set(shell_lines())) > 40


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if RUN in page.read_text(encoding="utf-8")], ids=str)
def test_what_a_page_marks_as_run_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in SMALLER.items():
        monkeypatch.setenv(name, value)
    marked = [block for block in code_blocks(page) if block.marked]
    assert marked
    for block in marked:
        if block.language == "python":
            exec(compile(block.text, str(page), "exec"), {"__name__": "__main__"})
        else:
            assert commands(block), block.text
            for command in commands(block):
                result = CliRunner().invoke(app, shlex.split(command)[1:])
                assert result.exit_code == 0, f"{command}: {result.output}"


def test_python_of_the_documentation_compiles():
    for page in pages():
        for block in code_blocks(page):
            if block.language == "python":
                compile(block.text, str(page), "exec")


LINK = re.compile(r"\]\((?P<file>[^()#\s:]*)(?:#(?P<anchor>[^()\s]+))?\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
MADE = re.compile(r"\w+\.md")
"""Pages that the site makes of the code, as the program that makes them names them."""


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub and the site have them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_there_are(page):
    made = MADE.findall((ROOT / "docs" / "pages_from_code.py").read_text(encoding="utf-8"))
    for link in LINK.finditer(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / link["file"]).resolve() if link["file"] else page
        if target.name in made and not target.exists():
            continue
        assert target.exists(), link[0]
        assert not link["anchor"] or link["anchor"] in anchors(target), link[0]
