"""`report.html` and `README.md`: what they show is what the report says, and a class's name is only ever a text."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
import yaml

from abcore.data.dataset import load_dataset
from abcore.progress import Stopped
from abcore.reporting.charts import Line, line_chart
from abcore.reporting.page import MOST_CLASSES, model_card, report_page
from abcore.specs.complete_report import CompleteReport
from abcore.specs.recipes import Recipe

MakeBench = Callable[..., Any]
EVIL = '<script>alert(1)</script>" | `x` [a](http://b) \n# heading'
VOID = {"meta", "line", "circle", "polyline", "br"}


class Parsed(HTMLParser):
    """A page's text, its tags with their attributes, and whether each was closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def complete(bench: Any) -> CompleteReport:
    return CompleteReport.model_validate_json((bench.workspace / "outputs" / "report.json").read_bytes())


@pytest.fixture
def bench(make_bench: MakeBench, recipe: Recipe) -> Any:
    """A run that was stopped on its way, and went on."""
    bench = make_bench(recipe=recipe)
    for stop_after in (5, 9):
        with pytest.raises(Stopped):
            bench.distill(stop_after=stop_after)
    bench.result = bench.distill()
    return bench


def test_the_page_shows_the_figures_of_its_report(bench: Any) -> None:
    report = complete(bench)
    told = {file.name: file for file in bench.result.files}["report.html"]
    assert (told.kind, told.media_type) == ("report", "text/html; charset=utf-8")
    page = Parsed((bench.workspace / "outputs" / "report.html").read_text())
    accuracy = report.student_accuracy["test"]
    for figure in (
        f"{accuracy.top1:.2%}",
        f"{report.teacher_accuracy['test'].top1:.2%}",
        f"{report.agreement['test']:.2%}",
        f"{report.student.num_parameters:,}",
        *(f"{tap.final:.2%}" for tap in report.boundary_similarity),
        *(f"{one.median_seconds * 1000:.3f}" for one in report.latency),
        *(str(count) for row in report.confusion["test"] for count in row if count),
        *report.versions.values(),
    ):
        assert figure in page.text


def test_the_curves_are_those_of_all_attempts(bench: Any) -> None:
    report = complete(bench)
    page = Parsed((bench.workspace / "outputs" / "report.html").read_text())
    lines = [attrs["points"].split() for tag, attrs in page.tags if tag == "polyline"]
    assert sorted(map(len, lines)) == sorted(len(curve.steps) for curve in report.curves)
    assert {curve.phase for curve in report.curves} == {"transfer", "finetune"}


def test_the_page_needs_nothing_beside_it(bench: Any) -> None:
    text = (bench.workspace / "outputs" / "report.html").read_text()
    page = Parsed(text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import", text)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith(("on", "src", "href"))]


@pytest.mark.parametrize("num_classes", [10, MOST_CLASSES + 1])
def test_a_class_has_no_more_to_say_than_its_name(bench: Any, num_classes: int) -> None:
    matrix = tuple(tuple((i * j) % 7 for j in range(num_classes)) for i in range(num_classes))
    names = tuple(f"{EVIL}{number}" for number in range(num_classes))
    report = complete(bench).model_copy(update={"classes": names, "confusion": {"test": matrix}})
    page = report_page(report)
    assert "<script" not in page
    assert names[1] in Parsed(page).text
    card = model_card(report)
    assert "<script" not in card.replace("\\<", "")
    assert "\n# heading" not in card
    assert not re.search(r"(?<!\\)\[a(?<!\\)\]\(", card)


def test_the_most_frequent_mistakes_of_many_classes_are_told(bench: Any) -> None:
    many = MOST_CLASSES + 1
    matrix = [[100 if i == j else 0 for j in range(many)] for i in range(many)]
    matrix[3][7], matrix[5][2] = 4321, 17
    names = tuple(f"class-{number}" for number in range(many))
    report = complete(bench).model_copy(update={"classes": names, "confusion": {"test": matrix}})
    text = Parsed(report_page(report)).text  # of cells beside each other
    assert text.index("class-3class-74321") < text.index("class-5class-217")


def test_the_card_loads_the_student(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (bench.workspace / "outputs" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "image-classification"
    assert "wide_resnet" in head["tags"]
    accuracy = complete(bench).student_accuracy["test"]
    assert f"| {accuracy.top1:.2%} |" in card
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(bench.workspace / "outputs")
    names: dict[str, Any] = {}
    exec(block, names)
    split = load_dataset(bench.workspace / "inputs" / "dataset.safetensors").splits["test"]
    said = names["predict"](split.images.float() / 255)
    right = sum(word == str(label) for word, label in zip(said, split.labels.tolist(), strict=True))
    assert right == round(accuracy.top1 * len(split))
    json.loads(re.findall(r"```json\n(.*?)```", card, re.DOTALL)[0])


@pytest.mark.parametrize(
    "values", [[0.5], [1.0, 1.0], [0.0, 0.0], [-3.0, 1e6], [1e-9, 2e-9], [float("nan"), 1.0]]
)
def test_a_chart_keeps_its_lines_inside(values: list[float]) -> None:
    chart = line_chart([Line("a & b", range(10, 10 + len(values)), values)], y_label="<unit>")
    assert "a &amp; b" in chart
    assert "&lt;unit&gt;" in chart
    (points,) = re.findall(r'points="([^"]*)"', chart)
    for point in points.split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 460
        assert 0 <= y <= 230
    assert torch.tensor([float(y) for y in re.findall(r'y="([-\d.]+)"', chart)]).max() <= 230
