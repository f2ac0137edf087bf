"""General's documentation check, on real files and as a real program."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from ua_vp_general.check_docs import check
from ua_vp_general.findings import Check, Tally
from ua_vp_general.markdown import parse
from ua_vp_general.report import Report, write_report


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root.resolve()


def tally(report: Report, wanted: Check) -> Tally:
    return next(tally for tally in report.tallies if tally.check is wanted)


def found(report: Report, wanted: Check) -> list[tuple[str, int | None, str]]:
    return [(f.file, f.line, f.subject) for f in report.findings if f.check is wanted]


def git(root: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(("git", *arguments), cwd=root, env=environment, check=True, capture_output=True)


def run(mission: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UA_VP_")}
    return subprocess.run(
        (sys.executable, "-P", "-m", "ua_vp_general.check_docs", *arguments),
        cwd=mission,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def mission(tmp_path: Path) -> Path:
    folder = tmp_path / "mission"
    (folder / "work_products").mkdir(parents=True)
    (folder / "supporting").mkdir()
    return folder


def findings_of(mission: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((mission / "supporting/findings.json").read_text(encoding="ascii"))
    return content


# --- the program ---


def test_the_program_writes_summary_and_findings_and_ends_well_in_spite_of_findings(
    tmp_path: Path, mission: Path
) -> None:
    root = write(
        tmp_path / "docs", {"README.md": "# Top\n\nSee [one](one.md) and\n[two](two.md).\n", "one.md": "# One\n"}
    )

    answer = run(mission, str(root))

    assert (answer.returncode, answer.stderr) == (0, "")
    assert "relative links: 2 looked at, 1 findings" in answer.stdout
    summary = (mission / "work_products/summary.md").read_text(encoding="utf-8")
    assert "**Verdict: 1 finding in 1 file, 2 pages looked at.**" in summary
    assert "`README.md:4`" in summary
    assert str(tmp_path) not in summary
    assert findings_of(mission)["findings"] == [
        {
            "check": "links",
            "file": "README.md",
            "line": 4,
            "subject": "two.md",
            "message": "no such file in the checkout",
        }
    ]


def test_the_summary_names_every_check_with_its_denominator_also_where_nothing_was_found(
    tmp_path: Path, mission: Path
) -> None:
    root = write(tmp_path / "docs", {"README.md": "# Top\n\n[up](#top-2) [again](#again)\n\n## Again\n"})

    assert run(mission, str(root)).returncode == 0

    counts = {row["check"]: (row["looked_at"], row["findings"]) for row in findings_of(mission)["checks"]}
    assert counts.pop("anchors") == (2, 1)
    assert counts.pop("pages") == counts.pop("reachable") == (1, 0)
    assert set(counts) == {check.name.lower() for check in Check} - {"anchors", "pages", "reachable"}
    assert set(counts.values()) == {(0, 0)}
    summary = (mission / "work_products/summary.md").read_text(encoding="utf-8")
    assert all(check.value[1:] in summary for check in Check)


def test_folders_named_by_the_environment_come_before_those_beside_the_program(tmp_path: Path, mission: Path) -> None:
    root = write(tmp_path / "docs", {"README.md": "# Top\n"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    subprocess.run(
        (sys.executable, "-P", "-m", "ua_vp_general.check_docs", str(root)),
        cwd=mission,
        env=os.environ | {"UA_VP_WORK_PRODUCTS": str(elsewhere), "UA_VP_SUPPORTING": str(elsewhere)},
        check=True,
        capture_output=True,
    )

    assert sorted(path.name for path in elsewhere.iterdir()) == ["findings.json", "summary.md"]
    assert not list((mission / "work_products").iterdir())


def test_a_root_without_markdown_is_said_to_have_none(tmp_path: Path, mission: Path) -> None:
    root = write(tmp_path / "docs", {"notes.txt": "[x](y.md)\n"})

    answer = run(mission, str(root))

    assert answer.returncode == 0
    summary = (mission / "work_products/summary.md").read_text(encoding="utf-8")
    assert "**Verdict: Nothing to check: there is no Markdown here.**" in summary


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["absent"], "'absent' does not exist: name the folder of a checkout"),
        (["a-file"], "'a-file' is not a folder"),
        ([""], "'' does not exist"),
        ([], "required: ROOT"),
        ([".", "more"], "unrecognized arguments: more"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(mission: Path, arguments: list[str], named: str) -> None:
    (mission / "a-file").touch()

    answer = run(mission, *arguments)

    assert answer.returncode == 2
    assert named in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list((mission / "work_products").iterdir())
    assert not list((mission / "supporting").iterdir())


def test_a_missing_folder_for_deliverables_is_named_and_nothing_is_written(tmp_path: Path, mission: Path) -> None:
    (mission / "work_products").rmdir()
    answer = run(mission, str(write(tmp_path / "docs", {"README.md": "# Top\n"})))

    assert answer.returncode == 2
    assert "work_products: no such folder: make it, or name another in UA_VP_WORK_PRODUCTS" in answer.stderr
    assert not list((mission / "supporting").iterdir())


# --- which pages ---


def test_of_a_work_tree_only_what_git_tracks_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook of another repository
    root = write(tmp_path, {"README.md": "# Top\n", "draft.md": "[x](nowhere.md)\n", "sub/.hidden/page.md": "# P\n"})
    git(root, "init", "--quiet")
    git(root, "add", "README.md", "sub/.hidden/page.md")

    report = check(root)

    assert report.how_listed == "files that git tracks"
    assert report.pages == 2
    assert found(report, Check.LINKS) == []
    assert found(report, Check.REACHABLE) == [("sub/.hidden/page.md", None, "sub/.hidden/page.md")]


def test_a_repository_of_a_stranger_starts_no_program(tmp_path: Path) -> None:
    root = write(tmp_path / "repo", {"README.md": "# Top\n"})
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "config", "core.fsmonitor", f"touch {tmp_path}/started #")

    assert check(root).how_listed == "files that git tracks"
    assert not (tmp_path / "started").exists()


def test_without_git_hidden_folders_environments_and_node_modules_are_passed_over(tmp_path: Path) -> None:
    names = [".x/a.md", "env/pyvenv.cfg", "env/a.md", "venv/a.md", "web/node_modules/a.md", "README.MD", "b.markdown"]
    root = write(tmp_path, dict.fromkeys(names, "# A\n"))

    report = check(root)

    assert report.pages == 2
    assert tally(report, Check.PAGES).passed == 2


def test_a_page_that_is_a_link_out_of_the_root_is_reported_and_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"secret.md": "[x](nowhere.md)\n", "root/README.md": "[page](page.md) [folder](out/secret.md)\n"})
    root = (tmp_path / "root").resolve()
    (root / "page.md").symlink_to("../secret.md")
    (root / "out").symlink_to(tmp_path)

    report = check(root)

    assert report.pages == 1
    assert found(report, Check.PAGES) == [("page.md", None, "page.md")]
    assert found(report, Check.LINKS) == [("README.md", 1, "page.md"), ("README.md", 1, "out/secret.md")]
    assert {f.message for f in report.findings if f.check is Check.LINKS} == {
        "a symbolic link leads out of the checkout"
    }


def test_links_to_one_page_are_that_page(tmp_path: Path) -> None:
    root = write(tmp_path, {"README.md": "[agents](other.md#rules)\n", "agents.md": "# Rules\n\n[x](no.md)\n"})
    (root / "other.md").symlink_to("agents.md")

    report = check(root)

    assert report.pages == 2
    assert tally(report, Check.PAGES).passed == 2
    assert [finding.file for finding in report.findings] == ["agents.md"]


def test_what_is_no_readable_page_is_reported(tmp_path: Path) -> None:
    root = write(tmp_path, {"README.md": "# Top\n"})
    (root / "latin.md").write_bytes(b"caf\xe9\n")
    (root / "loop.md").symlink_to("loop.md")
    os.mkfifo(root / "pipe.md")

    report = check(root)

    assert {f.file: f.message for f in report.findings if f.check is Check.PAGES} == {
        "latin.md": "not read: not UTF-8 at byte 3",
        "loop.md": "not read: no such file in the checkout",
        "pipe.md": "not read: neither a file nor a folder",
    }


# --- links ---


def test_relative_links_resolve_below_the_page_or_below_the_root(tmp_path: Path) -> None:
    text = (
        "[a](../README.md) [b](/docs/page.md) [c](my%20file.txt) [d](<my file.txt>) [e](./) [f](page.md?plain=1)\n"
        "[web](https://example.org/x.md) [mail](mailto:a@example.org) <https://example.org>\n"
        "[bad](absent.md) [out](../../other.md)\n[empty]()\n[nul](a%00b)\n"
    )
    root = write(tmp_path, {"README.md": "[docs](docs)\n", "docs/page.md": text, "docs/my file.txt": ""})

    report = check(root)

    assert found(report, Check.LINKS) == [
        ("docs/page.md", 3, "absent.md"),
        ("docs/page.md", 3, "../../other.md"),
        ("docs/page.md", 4, ""),
        ("docs/page.md", 5, "a%00b"),
    ]
    assert "leads out of the checkout" in {finding.message for finding in report.findings}
    assert tally(report, Check.LINKS).passed == 7
    assert tally(report, Check.LINKS).left_out.total() == 3


def test_the_line_of_a_link_is_right_inside_long_paragraphs_lists_tables_and_html(tmp_path: Path) -> None:
    text = (
        "---\ntitle: front matter\n---\nText with `code\nover lines` and [a](1.md)\nand *[b](2.md)*.\n\n- item\n"
        "  more [c](3.md)\n\n| head |\n| --- |\n| [d](4.md) |\n\n<p>\n<a href='5.md'>e</a> <!-- <a href='6.md'> -->\n</p>\n"
    )
    root = write(tmp_path, {"README.md": text})

    assert [(line, target) for _, line, target in found(check(root), Check.LINKS)] == [
        (5, "1.md"),
        (6, "2.md"),
        (9, "3.md"),
        (13, "4.md"),
        (16, "5.md"),
    ]


def test_links_in_code_are_no_links(tmp_path: Path) -> None:
    root = write(tmp_path, {"README.md": "`[a](a.md)`\n\n```\n[b](b.md) ![c](c.png)\n```\n\n    [d][e]\n"})

    assert check(root).findings == []


def test_images_in_markdown_and_html_must_be_files(tmp_path: Path) -> None:
    text = '![a](a.png) ![b](b.png)\n<img src="c.png" alt=""> ![web](https://example.org/d.png) ![folder](sub)\n'
    root = write(tmp_path, {"README.md": text, "a.png": "", "sub/x": ""})

    report = check(root)

    assert found(report, Check.IMAGES) == [
        ("README.md", 1, "b.png"),
        ("README.md", 2, "c.png"),
        ("README.md", 2, "sub"),
    ]
    assert tally(report, Check.IMAGES).passed == 1
    assert tally(report, Check.LINKS).looked_at == 0


def test_reference_links_need_a_definition(tmp_path: Path) -> None:
    text = (
        "[text][known] [known][] [known] and [`co]de`][gone]\n![image][nowhere] [lost][]\n\n[known]: README.md\n\n"
        "A lone [word], a note[^1], a [note][^2], `x[a][b]`, x[0][1], \\[a\\]\\[b\\], - [ ] task.\n\n[^1]: footnote\n\n[^2]: A longer footnote.\n"
    )
    root = write(tmp_path, {"README.md": text})

    report = check(root)

    assert found(report, Check.REFERENCES) == [
        ("README.md", 1, "[gone]"),
        ("README.md", 2, "[nowhere]"),
        ("README.md", 2, "[lost]"),
    ]
    assert tally(report, Check.REFERENCES).passed == 3
    assert found(report, Check.LINKS) == []


@pytest.mark.parametrize(
    "text", ["", "\n", "[a]: b\n", "<!-- nothing -->\n", "---\na: [x](y.md)\n---\n", "\x00\x1b\ufeff"]
)
def test_a_page_that_says_nothing_is_a_page(tmp_path: Path, text: str) -> None:
    report = check(write(tmp_path, {"README.md": text}))

    assert (report.pages, report.findings) == (1, [])


def test_anchors_follow_githubs_rules() -> None:
    page = (
        "# What's *new* in `v1.2_x`?\n\n## Größe & 测试\n\n## Same\n\n## Same\n\nSetext [link](x.md)\n======\n\n"
        '<a id="Explicit"></a> <a name="old"></a>\n\n<h2 align="center">In <b>HTML</b></h2>\n\n## Same 1\n\n<div id="block">\n</div>\n'
    )

    assert parse(page).anchors == {
        "whats-new-in-v12_x",
        "größe--测试",
        "same",
        "same-1",
        "same-1-1",
        "setext-link",
        "Explicit",
        "block",
        "old",
        "in-html",
    }


def test_anchors_are_looked_up_in_the_page_a_link_leads_to(tmp_path: Path) -> None:
    text = (
        "# Top\n\n[a](#top) [b](docs/page.md#here) [c](docs#here) [d](docs/page.md#Here)\n[e](#gone) [f](x.py#L3-L9)\n"
    )
    root = write(
        tmp_path, {"README.md": text, "docs/README.md": "# Here\n\n[p](page.md)\n", "docs/page.md": "# Here\n"}
    )
    (root / "x.py").touch()

    report = check(root)

    assert found(report, Check.ANCHORS) == [("README.md", 3, "docs/page.md#Here"), ("README.md", 4, "#gone")]
    assert "the nearest is #here" in report.findings[0].message
    assert tally(report, Check.ANCHORS).passed == 3
    assert tally(report, Check.ANCHORS).left_out == {"name lines of a file": 1}


def test_pages_no_chain_of_links_reaches_are_orphaned(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "README.md": "[a](a.md) [folder](sub)\n",
            "a.md": "[b](b.md)\n",
            "b.md": "[a](a.md)\n",
            "sub/c.md": "# C\n",
            "lost.md": "[also](found.md)\n",
            "found.md": "# F\n",
            ".github/form.md": "# Form\n",
        },
    )
    git(root, "init", "--quiet")
    git(root, "add", ".")

    report = check(root)

    assert [file for file, _, _ in found(report, Check.REACHABLE)] == ["found.md", "lost.md"]
    assert tally(report, Check.REACHABLE).passed == 4
    assert tally(report, Check.REACHABLE).left_out.total() == 1


def test_without_a_readme_reachability_is_not_checked_and_that_is_said(tmp_path: Path) -> None:
    reachable = tally(check(write(tmp_path, {"page.md": "# P\n"})), Check.REACHABLE)

    assert (reachable.looked_at, reachable.left_out.total()) == (0, 1)
    assert "no README" in next(iter(reachable.left_out))


# --- code blocks ---


@pytest.mark.parametrize(
    ("language", "code", "faulty_line"),
    [
        ("python", "x = 1\nreturn await y\n", None),
        ("python", "    indented = 1\n", None),
        ("py", "x = 1\ndef f(:\n", 2),
        ("python", ">>> def f():\n...     return 1\n>>> f()\n1\n", None),
        ("pycon", ">>> 1 +\n>>> 2\n", 1),
        ("pycon", ">>> x = 1\n>>>x\n", 2),
        ("pycon", ">>> x = 1\n>>> x\n1\n>>> x +\n", 4),
        ("python", f"{'(' * 5000}\n", 1),
        ("json", '{"a": [1, 2]}\n', None),
        ("json", '{\n  "a": 1,\n}\n', 3),
        ("json", "[" * 100_000 + "\n", 1),
        ("toml", "[a]\nb = 1\n", None),
        ("toml", "[a]\nb = \n", 2),
        ("sh", "if true; then\n  echo yes\nfi\n", None),
        ("sh", "echo a\nif true; then\n", 2),
        ("bash", "x=(1 2)\nwhile read -r y; do echo; done < <(true)\n", None),
        ("bash", "echo a\necho (\n", 2),
        ("console", "$ echo 'one\n> two'\nit's output (\n$ ls \\\n  -l\n", None),
        ("console", "$ ls \\\n  ( -l\n", 2),
        ("console", "it's output\n$ echo a\n$ echo )\n", 3),
    ],
)
def test_code_blocks_must_parse(tmp_path: Path, language: str, code: str, faulty_line: int | None) -> None:
    root = write(tmp_path, {"README.md": f"# Top\n\n```{language}\n{code}```\n"})

    report = check(root)

    lines = [finding.line for finding in report.findings]
    assert lines == ([] if faulty_line is None else [3 + faulty_line])
    looked_at = sum(tally(report, check).looked_at for check in (Check.PYTHON, Check.JSON, Check.TOML, Check.SHELL))
    assert looked_at == 1


def test_code_is_read_by_the_shell_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"touch {marker}\nx=$(touch {marker})\n"
    root = write(tmp_path / "docs", {"README.md": f"```sh\n{code}```\n\n```bash\n{code}```\n"})

    assert tally(check(root), Check.SHELL).passed == 2
    assert not marker.exists()


def test_blocks_nobody_can_check_are_counted_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)  # import then fails, as where PyYAML is not installed
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "```yaml\n: [\n```\n\n```sh\n(\n```\n\n```rust\nfn\n```\n\n```\ntext\n```\n\n```console\nno prompt\n```\n"

    report = check(write(tmp_path, {"README.md": text}))

    assert report.findings == []
    assert tally(report, Check.YAML).left_out == {"YAML: PyYAML is not installed": 1}
    assert tally(report, Check.SHELL).left_out == {
        "shell: sh is not installed": 1,
        "shell: no line after a `$` prompt": 1,
    }
    assert tally(report, Check.OTHER_CODE).left_out == {"in languages without a check here": 1, "name no language": 1}


def test_yaml_is_parsed_where_pyyaml_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    text = "```yaml\na: !vault &x [1]\nb: *x\n---\nc: 2\n```\n\n```yml\na: [\nb: }\n```\n"

    report = check(write(tmp_path, {"README.md": text}))

    assert tally(report, Check.YAML).passed == 1
    assert found(report, Check.YAML) == [("README.md", 10, "yml")]


# --- what strangers write ---


def test_hostile_names_do_not_break_the_table(tmp_path: Path) -> None:
    names = ["a|b.md", "new\nline.md", "tick`s``.md", "\x1b[31mred.md", "back\\|slash.md", "\u202ertl.md", "<b>*x*.md"]
    root = write(tmp_path / "docs", {"README.md": "# Top\n", **dict.fromkeys(names, "[x](|<script>`|) [y](#gone)\n")})
    (root / os.fsdecode(b"byte\xff.md")).write_text("# B\n")
    for folder in ("work_products", "supporting"):
        (tmp_path / folder).mkdir()

    write_report(check(root), work_products=tmp_path / "work_products", supporting=tmp_path / "supporting")

    summary = (tmp_path / "work_products/summary.md").read_text(encoding="utf-8")
    assert not set("\x1b\u202e") & set(summary)
    tokens = MarkdownIt("commonmark").enable("table").parse(summary.partition("## Findings")[2])
    rows = [t.map for t in tokens if t.type == "tr_open"]
    cells = [token for token in tokens if token.type == "td_open"]
    expected = 3 * len(names) + 1  # an orphan each, a broken link and a broken anchor in all but one
    assert len(rows) == 1 + expected
    assert len(cells) == 4 * expected
    shown = [
        child.content for t in tokens if t.type == "inline" for child in t.children or () if child.type == "code_inline"
    ]
    assert {"a|b.md", "new\\nline.md", "tick`s``.md", "\\x1b[31mred.md", "byte\\xff.md"} <= set(shown)
    assert not [child for t in tokens for child in t.children or () if child.type in {"html_inline", "em_open"}]
    said = ["".join(child.content for child in t.children or ()) for t in tokens]
    assert {f"no heading or id of that name in {name}" for name in ("a|b.md", "<b>*x*.md")} <= set(said)
    files = {f["file"] for f in json.loads((tmp_path / "supporting/findings.json").read_text())["findings"]}
    assert files == {*names, "byte\\xff.md"}


def test_a_table_too_long_to_read_says_where_the_rest_stands(tmp_path: Path) -> None:
    root = write(tmp_path / "docs", {"README.md": "[x](y.md)\n" * 600})
    for folder in ("work_products", "supporting"):
        (tmp_path / folder).mkdir()

    write_report(check(root), work_products=tmp_path / "work_products", supporting=tmp_path / "supporting")

    assert len(json.loads((tmp_path / "supporting/findings.json").read_text())["findings"]) == 600
    summary = (tmp_path / "work_products/summary.md").read_text()
    assert "100 more stand in `supporting/findings.json`, which holds all 600." in summary
    assert summary.count("`README.md:") == 500


@pytest.mark.timeout(30)
@pytest.mark.parametrize("piece", ["[", "![", "<a ", "<!--", "[a][", '<a href="', "*", "> ", "`", "<h1>", "[x](y.md) "])
def test_a_page_made_to_be_slow_is_read_in_time(piece: str) -> None:
    parse(piece * 20_000)
