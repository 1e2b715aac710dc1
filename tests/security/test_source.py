"""What the source must not hold: ways to execute what a file says, and pages that do not escape."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "cf_lightning"
NEVER = {
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "cloudpickle.load",
        "cloudpickle.loads",
        "joblib.load",
    ),
    *("marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load", "torch.hub.load"),
    *("os.system", "os.popen", "eval", "exec", "__import__", "Markup", "markupsafe.Markup"),
}
# who imports a module by its name, and why it may
IMPORTS = {"__init__.py", "security.py", "export/load.py", "tracking/dashboard.py"}


def problems(tree: ast.AST) -> Iterator[str]:
    """Calls that could execute what a file says."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        place = f"line {call.lineno}: {name}"
        if name in NEVER:
            yield place
        if name == "torch.load" and said.get("weights_only") != "True":
            yield f"{place} without weights_only=True"
        if name.endswith(".get_state_dict") and said.get("weights_only") != "True":
            yield f"{place} without weights_only=True"
        if name.endswith(".fit") and "ckpt_path" in said and said.get("weights_only") != "True":
            yield f"{place} of a checkpoint without weights_only=True"
        if name.endswith("np.load") and said.get("allow_pickle") != "False":
            yield f"{place} without allow_pickle=False"
        if said.get("shell", "False") != "False":
            yield f"{place} with a shell"


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_nothing_executes_what_a_file_says(file: Path) -> None:
    text = file.read_text()
    assert not list(problems(ast.parse(text)))
    assert "import_module(" not in text or str(file.relative_to(SOURCE)) in IMPORTS


@pytest.mark.parametrize(
    "line",
    [
        *("pickle.loads(x)", "torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x)"),
        *("np.load(x, allow_pickle=True)", "eval(x)", "yaml.load(x)", "subprocess.run(x, shell=True)"),
        *("trainer.fit(module, ckpt_path=x)", "os.system(x)", "tag.get_state_dict()"),
    ],
)
def test_such_a_line_would_be_found(line: str) -> None:
    assert len(list(problems(ast.parse(line)))) == 1


def test_pages_escape_all_but_our_own_drawings() -> None:
    pages = {file.name: file.read_text() for file in (SOURCE / "report").glob("*.html")}
    assert [name for name, text in pages.items() for _ in re.findall(r"\|\s*safe\b", text)] == ["macros.html"]
    assert "autoescape=True" in (SOURCE / "report" / "page.py").read_text()
    assert not any("autoescape" in text for text in pages.values())
    for script in (SOURCE / "report").glob("*.js"):
        assert "innerHTML" not in script.read_text()
